/** Signed findings of all patients: search, read, open, export. */

import { html, render, signal } from "../vendor/preact.mjs";
import { boot, call } from "../shared/api.mjs";
import { post } from "../shared/files.mjs";
import { Mark, NOT_CLEARED, Person, dayWords, nameWords, timeWords } from "../shared/chrome.mjs";
import { DEPTHS, DISPOSITIONS, KINDS, kindOf } from "../shared/kinds.mjs";
import { say } from "../shared/say.mjs";
import { lockState, may, me, prefers, startSession } from "../shared/session.mjs";
import { readTooth, toothIn } from "../shared/teeth.mjs";

const start = boot();
const found = signal(null);
const failure = signal("");
const isBusy = signal(false);
const CHANGES = [["new", "New"], ["deeper", "Deeper"], ["more_loss", "More bone loss"], ["less_loss", "Less bone loss"]];

/** What the form asks for, in the API's words; undefined when the tooth is none. */
function wantedOf(form) {
	const fields = new FormData(form);
	const tooth = readTooth(prefers("numbering"), fields.get("tooth"));
	if (tooth === undefined) return void (failure.value = `There is no tooth ${fields.get("tooth")}.`);
	const or = (name) => fields.get(name) || null;
	return { tooth, kind: or("kind"), depth: or("depth"), disposition: or("disposition"), change: or("change"), signed_by: fields.get("signed_by"), signed_from: or("from"), signed_to: or("to") };
}

async function search(event) {
	event?.preventDefault();
	failure.value = "";
	const wanted = wantedOf(document.getElementById("search-form"));
	if (!wanted) return;
	isBusy.value = true;
	try {
		found.value = await call("/api/findings/search", { body: wanted });
		say(`${found.value.rows.length} findings.`);
	} catch (problem) {
		failure.value = problem.words;
	}
	isBusy.value = false;
}

async function exportAll() {
	const wanted = wantedOf(document.getElementById("search-form"));
	if (!wanted) return;
	try {
		const file = URL.createObjectURL(await post("/api/findings/export", wanted));
		const link = Object.assign(document.createElement("a"), { href: file, download: "findings.csv" });
		link.click();
		setTimeout(() => URL.revokeObjectURL(file), 10_000);
		say("Exported. The export is on record.");
	} catch (problem) {
		failure.value = problem.words;
	}
}

function Choice({ name, label, options }) {
	return html`<label class="field">${label} <select name=${name}><option value="">any</option>
		${options.map(([value, words]) => html`<option key=${value} value=${value}>${words}</option>`)}</select></label>`;
}

function Page() {
	return html`<div class="worklist search">
		<header class="topbar"><a class="brand" href="/"><${Mark} /> Bitewing</a><span class="muted ellipsis">${start.practice_name}</span><span class="grow"></span>
			<a class="button quiet" href="/">Worklist</a><${Person} /></header>
		<main><h1 class="sr-only">Search findings</h1>
			<form id="search-form" class="tools" onSubmit=${search}>
				<label class="field">Tooth <input name="tooth" size="5" maxlength="4" autocomplete="off" /></label>
				<${Choice} name="kind" label="Kind" options=${KINDS.map((kind) => [kind.value, kind.words])} />
				<${Choice} name="depth" label="Depth" options=${DEPTHS.map(([depth, words]) => [depth, `${depth} ${words}`])} />
				<${Choice} name="change" label="Change" options=${CHANGES} />
				<${Choice} name="disposition" label="Plan" options=${DISPOSITIONS} />
				<label class="field">Signed by <input name="signed_by" maxlength="128" autocomplete="off" /></label>
				<label class="field">From <input name="from" type="date" /></label><label class="field">To <input name="to" type="date" /></label>
				<button class="primary" disabled=${isBusy.value}>Search</button>
				${may("findings.export") && html`<button type="button" onClick=${exportAll}>Export (CSV)</button>`}</form>
			${failure.value && html`<p class="notice bad bar" role="alert">${failure.value}</p>`}
			<div class="scroll" aria-busy=${String(isBusy.value)}><${Rows} /></div></main>
		<footer class="footline"><span>Signed findings only. Suggestions and rejected ones are never listed.</span><span class="grow"></span><span>${NOT_CLEARED}</span></footer></div>`;
}

function Rows() {
	const answer = found.value;
	if (!answer) return html`<div class="empty"><p>Looking for signed findings…</p></div>`;
	const note = html`${answer.amending > 0 && html`<p class="muted">${answer.amending} ${answer.amending === 1 ? "study is" : "studies are"} being amended or was taken back, and left out until signed again.</p>`}
		${answer.is_cut && html`<p class="warning">More were found than are listed. Narrow the search, or export.</p>`}`;
	if (!answer.rows.length) return html`${note}<div class="empty"><h2>No signed finding fits</h2><p>Fewer conditions find more.</p></div>`;
	const zone = me.value.settings.time_zone;
	return html`${note}<table class="queue"><thead><tr><th scope="col">Patient</th><th scope="col">Finding</th><th scope="col">Change</th><th scope="col">Plan</th><th scope="col">Signed</th></tr></thead>
		<tbody>${answer.rows.map((row, index) => html`<tr key=${index}>
			<td class="who"><a href=${`/review/${row.study_id}`}>${nameWords(row.patient)}</a><small>${dayWords(row.study_date)}</small></td>
			<td><span class="counts"><span><i class=${`letter ${row.kind}`}>${row.letter}</i> ${kindOf(row.kind).words} ${toothIn(prefers("numbering"), row.tooth)} ${row.surfaces} ${row.depth ?? ""}
				${row.value_mm !== null ? `${row.value_mm.toFixed(1)} mm` : ""}</span></span><small>${row.origin === "human" ? "added by the reader" : "suggested, then confirmed"}</small></td>
			<td>${row.change || html`<span class="muted">–</span>`}</td><td>${row.disposition ?? html`<span class="muted">none said</span>`}</td>
			<td class="nowrap">${row.signer_name}<small>${timeWords(row.signed_at, zone)}, version ${row.version}</small></td></tr>`)}</tbody></table>`;
}

if (start.me) {
	startSession(start.me);
	render(html`<${Page} />`, document.getElementById("app"));
	if (lockState.value !== "locked") search();
	addEventListener("bitewing-unlocked", () => search());
}
