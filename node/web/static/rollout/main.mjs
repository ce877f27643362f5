/** The roll-out: what is silent, suggested or automatic, on what ground, and the switch back. */

import { html, signal } from "../vendor/preact.mjs";
import { call } from "../shared/api.mjs";
import { attempt, open } from "../people/frame.mjs";
import { Automatic } from "./automatic.mjs";
import { Calibrations } from "./calibrations.mjs";
import { Ground } from "./ground.mjs";

const AREAS = [["finding", "Kinds of finding"], ["tag", "Tags"], ["workflow", "Workflows"]];
const MODES = { silent: "silent", assist: "assist", auto: "auto" };
const VIEWS = ["bitewing", "periapical", "panoramic", "occlusal"];

const found = signal(null);
const explained = signal(null);

async function load() {
	await attempt(async () => (found.value = await call("/api/rollout")));
	const study = new URLSearchParams(location.search).get("study");
	if (study && !explained.value) explain(study);
}

/** Change something; the answer is the new overview. */
async function act(words, path, body = {}) {
	return attempt(async () => (found.value = await call(`/api/rollout${path}`, { body })), words);
}

function explain(study) {
	attempt(async () => (explained.value = (await call(`/api/rollout/explain/${encodeURIComponent(study)}`)).lines));
}

function Back({ may }) {
	const held = found.value.rules.filter((rule) => rule.is_ceiling);
	return html`<section aria-labelledby="h-back"><h2 id="h-back">Switch back</h2>
		${found.value.limit === "silent" && html`<p class="notice warn">The configuration keeps everything silent ([node] mode), whatever is let in here.</p>`}
		<div class="actions"><button class="danger" disabled=${!may.switch} onClick=${() => act("Everything is silent now.", "/back", { subject: "*" })}>Make everything silent now</button>
			<button disabled=${!may.switch} onClick=${() => act("Nothing is automatic now.", "/back", { subject: "*", to: "assist" })}>Nothing automatic</button></div>
		${held.map((rule) => html`<p key=${rule.id} class="notice warn"><b>Held back:</b> ${rule.words.replace(/^\*/, "everything")} <span class="muted">by ${rule.by}</span>${" "}
			<button onClick=${() => act("The rules hold again.", "/lift", { subject: rule.subject })}>Let the rules hold again</button></p>`)}</section>`;
}

function Mode({ mode }) {
	return html`<span class=${`pill ${{ silent: "", assist: "good", auto: "warn" }[mode]}`}>${MODES[mode]}</span>`;
}

function Subjects({ may }) {
	return html`<section aria-labelledby="h-modes"><h2 id="h-modes">What is let in</h2>
		<p class="muted">Where no rule names a place. “Back” holds one at silent at once.</p>
		${AREAS.map(([area, title]) => {
			const rows = found.value.subjects.filter((one) => one.area === area);
			return rows.length > 0 && html`<div class="scrolls" key=${area} tabindex="0" role="group" aria-label=${title}><table class="queue"><thead><tr><th scope="col">${title}</th><th scope="col">Mode</th><th scope="col">Why</th><th scope="col"><span class="sr-only">Switch</span></th></tr></thead>
				<tbody>${rows.map((one) => html`<tr key=${one.subject}><td>${one.title}</td><td><${Mode} mode=${one.mode} /></td><td><small>${one.why}</small></td>
					<td>${one.mode !== "silent" && may.switch && html`<button aria-label=${`Hold ${one.title} at silent`} onClick=${() => act(`${one.title} is silent now.`, "/back", { subject: one.subject })}>Back</button>`}</td></tr>`)}</tbody></table></div>`;
		})}</section>`;
}

function Place({ name, label, options }) {
	return html`<label class="field">${label} <select name=${name}><option value="">any</option>
		${options.map((one) => html`<option key=${one.key} value=${one.key}>${one.name}</option>`)}</select></label>`;
}

function Rules({ may }) {
	const { places, subjects, rules } = found.value;
	const set = (event) => {
		event.preventDefault();
		act("The rule stands.", "/rules", Object.fromEntries(new FormData(event.currentTarget)));
	};
	const plain = rules.filter((rule) => !rule.is_ceiling);
	return html`<section aria-labelledby="h-rules"><h2 id="h-rules">Rules</h2>
		<p class="muted">The rule that names most wins; of two that name equally much, the more cautious.</p>
		${plain.length === 0 && html`<p>No rule stands: everything is silent.</p>`}
		<ul class="plain">${plain.map((rule) => html`<li key=${rule.id}>${rule.words} <small class="muted">by ${rule.by}${rule.reason && `: ${rule.reason}`}</small>
			${may.lead && html` <button aria-label=${`End the rule ${rule.words}`} onClick=${() => act("The rule ended.", `/rules/${rule.id}/end`)}>End</button>`}</li>`)}</ul>
		${may.switch && html`<form class="wide" onSubmit=${set} aria-label="New rule">
			<label class="field">What <select name="subject"><option value="finding:*">every finding</option><option value="tag:*">every tag</option>
				${subjects.map((one) => html`<option key=${one.subject} value=${one.subject}>${one.area}: ${one.title}</option>`)}</select></label>
			<label class="field">Mode <select name="mode">${Object.keys(MODES).map((mode) => html`<option key=${mode}>${mode}</option>`)}</select></label>
			<${Place} name="view" label="View" options=${VIEWS.map((view) => ({ key: view, name: view }))} />
			<${Place} name="operatory" label="Operatory" options=${places.operatory} />
			<${Place} name="provider" label="Provider" options=${places.provider} />
			<${Place} name="lab" label="Laboratory" options=${places.lab} />
			<label class="field">Why <input name="reason" maxlength="255" autocomplete="off" /></label>
			<div><button class="primary">Set</button></div></form>`}</section>`;
}

function Why() {
	const ask = (event) => {
		event.preventDefault();
		explain(new FormData(event.currentTarget).get("study").trim());
	};
	return html`<section aria-labelledby="h-why"><h2 id="h-why">Why is a finding shown or hidden?</h2>
		<form onSubmit=${ask}><label class="field">Study (the end of its address on the review page) <input name="study" required maxlength="32" autocomplete="off" spellcheck="false" /></label><div><button>Explain</button></div></form>
		${explained.value && html`<div class="scrolls" tabindex="0" role="group" aria-label="Explanation"><table class="queue"><thead><tr><th scope="col">What</th><th scope="col">View</th><th scope="col">Shown</th><th scope="col">Why</th></tr></thead>
			<tbody>${explained.value.map((line) => html`<tr key=${line.subject + line.view}><td>${line.subject}</td><td>${line.view || "–"}</td><td>${line.is_shown ? "yes" : "no"}</td><td><small>${line.words}</small></td></tr>`)}</tbody></table></div>
			${explained.value.length === 0 && html`<p>No image of this study was analysed.</p>`}`}</section>`;
}

function Page() {
	if (!found.value) return html`<p aria-busy="true">Looking…</p>`;
	const { may } = found.value;
	return html`<${Back} may=${may} /><${Subjects} may=${may} /><${Ground} found=${found.value} act=${act} /><${Rules} may=${may} />
		${found.value.auto && html`<${Automatic} auto=${found.value.auto} onChanged=${(now) => (found.value = { ...found.value, auto: now })} />`}
		<${Calibrations} found=${found.value} act=${act} /><${Why} />`;
}

open("Roll-out", Page, load);
