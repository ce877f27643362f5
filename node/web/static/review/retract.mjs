/** Taking back what was signed: whose images they really are, or which findings are wrong. */

import { html, useState } from "../vendor/preact.mjs";
import { call } from "../shared/api.mjs";
import { say } from "../shared/say.mjs";
import { me, proofOf } from "../shared/session.mjs";
import { Choices } from "../worklist/repair.mjs";
import * as at from "./store.mjs";
import { done, reload, undone } from "./changes.mjs";
import { Modal } from "./modal.mjs";

export function Retract() {
	const [kind, setKind] = useState("patient");
	const [found, setFound] = useState({ candidates: [] });
	const [choice, setChoice] = useState(null);
	const [wrong, setWrong] = useState(new Set());
	const [problem, setProblem] = useState("");
	const [isBusy, setBusy] = useState(false);
	const signed = at.ordered.value.filter((finding) => ["accepted", "edited"].includes(finding.state));
	const search = async () => {
		const text = document.getElementById("right-patient").value.trim();
		if (text.length < 2) return;
		setChoice(null);
		setFound({ candidates: null });
		setFound(await call("/api/patients/search", { body: { text } }).catch((refused) => (setProblem(refused.words), { candidates: [] })));
	};
	const submit = async (event) => {
		event.preventDefault();
		const fields = new FormData(event.currentTarget);
		setBusy(true);
		setProblem("");
		try {
			await call(`/api/studies/${at.study.value.id}/retract`, { body: {
				kind, reason: fields.get("reason"), patient_id: kind === "patient" ? choice?.patient_id ?? null : null,
				finding_ids: kind === "findings" ? [...wrong] : [], ...proofOf(fields.get("password")),
			} });
			[done.value, undone.value] = [[], []];
			at.dialog.value = null;
			await reload(false);
			at.notice.value = { kind: "warn", words: kind === "patient"
				? "Taken back. Corrections are on their way to the chart it stood in. Look at the study again and sign it for the right patient."
				: "Taken back. Look at what remains and sign it: that replaces what stands in the chart." };
			say("Taken back.");
		} catch (refused) {
			setProblem(refused.words);
			setBusy(false);
		}
	};
	const toggle = (id) => {
		const next = new Set(wrong);
		if (!next.delete(id)) next.add(id);
		setWrong(next);
	};
	const last = at.study.value.versions.at(-1);
	return html`<${Modal} title=${`Take back version ${last.version}, signed by ${last.signer_name}`}
			footer=${html`<span class="grow"></span><button class="danger" form="retract-form" disabled=${isBusy || (kind === "findings" && !wrong.size)}>Take back</button>`}>
		<form id="retract-form" class="signform" onSubmit=${submit}>
			<div role="radiogroup" aria-label="What is wrong" class="row">
				<label><input type="radio" name="kind" checked=${kind === "patient"} onChange=${() => setKind("patient")} /> Wrong patient</label>
				<label><input type="radio" name="kind" checked=${kind === "findings"} onChange=${() => setKind("findings")} /> Wrong findings</label></div>
			${kind === "patient" ? html`<div class="repair"><label class="field">Whose images are these? (may stay open)
					<span class="row"><input id="right-patient" minlength="2" maxlength="64" placeholder="Name or patient number" autocomplete="off" />
					<button type="button" onClick=${search}>Search</button></span></label>
					${(found.candidates === null || found.candidates.length > 0) && html`<${Choices} found=${found} choice=${choice} setChoice=${setChoice} />`}</div>`
				: html`<fieldset><legend>Which signed findings are wrong?</legend>${signed.map((finding) => html`<label class="row" key=${finding.id}>
					<input type="checkbox" checked=${wrong.has(finding.id)} onChange=${() => toggle(finding.id)} /> ${at.findingWords(finding)}</label>`)}</fieldset>`}
			<div class="notice warn"><p>${kind === "patient"
				? "Entries that have not left are withdrawn. In the chart that has them, notes get a correction, tasks are closed, and the office gets a task for what only a person can remove. Archives get a rejection note. Open cases of the study are cancelled."
				: "Entries that have not left are withdrawn, archives get a rejection note, open cases are cancelled. What stands in the chart is replaced once you sign the rest."}
				${" "}Both versions stay on record.</p></div>
			<label class="field">Reason <input name="reason" minlength="3" maxlength="255" required autocomplete="off" /></label>
			<input class="sr-only" type="text" tabindex="-1" aria-hidden="true" autocomplete="username" value=${me.value.username} readonly />
			<label class="field">${me.value.has_pin ? "PIN or password" : "Password"} of ${me.value.display_name}
				<input name="password" type="password" autocomplete="current-password" required maxlength="256" /></label>
			${problem && html`<p class="notice bad" role="alert">${problem}</p>`}
		</form></${Modal}>`;
}
