/** The audit: who saw and did what, found by person, patient, study, action and day; exported. */

import { html, signal } from "../vendor/preact.mjs";
import { call } from "../shared/api.mjs";
import { post } from "../shared/files.mjs";
import { timeWords } from "../shared/chrome.mjs";
import { me } from "../shared/session.mjs";
import { attempt, open } from "../people/frame.mjs";

const found = signal(null);
const isBusy = signal(false);
const KINDS = ["image", "study", "review", "chart", "archive", "worklist", "analysis", "pms", "case", "approval", "session", "user", "patient_page", "gateway", "agreement", "config", "audit"];

/** What the form asks for, in the API's words. */
function wanted() {
	const fields = new FormData(document.getElementById("audit-form"));
	const asked = Object.fromEntries(["user", "patient", "study", "action"].map((name) => [name, fields.get(name).trim()]));
	return { ...asked, since: fields.get("since") || null, until: fields.get("until") || null };
}

async function search(more = false) {
	isBusy.value = true;
	await attempt(async () => {
		const body = wanted();
		if (more) body.before_seq = found.value.next_before;
		const answer = await call("/api/audit/search", { body });
		found.value = more ? { ...answer, rows: [...found.value.rows, ...answer.rows] } : answer;
	});
	isBusy.value = false;
}

const exportAs = (form) => attempt(async () => {
	const file = URL.createObjectURL(await post("/api/audit/export", { ...wanted(), form }));
	Object.assign(document.createElement("a"), { href: file, download: `audit.${form}` }).click();
	setTimeout(() => URL.revokeObjectURL(file), 10_000);
}, "Exported, with the proof of its place in the chain. The export is on record.");

function Field({ name, label, ...rest }) {
	return html`<label class="field">${label} <input name=${name} maxlength="64" autocomplete="off" ...${rest} /></label>`;
}

function Rows() {
	const zone = me.value.settings.time_zone;
	const answer = found.value;
	if (!answer) return html`<p class="muted">Looking…</p>`;
	if (!answer.rows.length) return html`<p class="muted">No entry fits.</p>`;
	return html`<div class="scrolls" tabindex="0" role="group" aria-label="Entries"><table class="queue"><thead><tr><th scope="col">Row</th><th scope="col">When</th><th scope="col">Who</th><th scope="col">What</th><th scope="col">About</th></tr></thead>
		<tbody>${answer.rows.map((row) => html`<tr key=${row.seq}><td>${row.seq}</td><td class="nowrap">${timeWords(row.at, zone)}</td><td>${row.who}</td><td>${row.action}</td>
			<td>${row.subject}${Object.keys(row.detail).length > 0 && html`<details><summary>Details</summary><pre>${JSON.stringify(row.detail, null, 1)}</pre></details>`}</td></tr>`)}</tbody></table></div>
		${answer.next_before && html`<button type="button" disabled=${isBusy.value} onClick=${() => search(true)}>Earlier entries</button>`}`;
}

function Page() {
	return html`<section aria-busy=${String(isBusy.value)}>
		<form id="audit-form" class="wide" onSubmit=${(event) => { event.preventDefault(); search(); }}>
			<${Field} name="user" label="Person or part" /><${Field} name="patient" label="Patient's number" /><${Field} name="study" label="Study" />
			<${Field} name="action" label="Action" list="audit-kinds" /><datalist id="audit-kinds">${KINDS.map((kind) => html`<option key=${kind} value=${kind} />`)}</datalist>
			<${Field} name="since" label="From" type="date" /><${Field} name="until" label="To" type="date" />
			<div class="actions"><button class="primary" disabled=${isBusy.value}>Search</button>
				<button type="button" onClick=${() => exportAs("csv")}>Export (CSV)</button><button type="button" onClick=${() => exportAs("json")}>Export (JSON)</button></div></form>
		${found.value && html`<p class="muted">The audit stands at row ${found.value.head_seq}, ${found.value.head_hash.slice(0, 16)}…</p>`}
		<${Rows} /></section>`;
}

open("Audit", Page, () => search());
