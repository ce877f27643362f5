/** Signing: a summary, what is still open, the statement, the proof; the server checks it all again. */

import { html, useEffect, useRef, useState } from "../vendor/preact.mjs";
import { call } from "../shared/api.mjs";
import { DISPOSITIONS } from "../shared/kinds.mjs";
import { dayWords, nameWords } from "../shared/chrome.mjs";
import { say } from "../shared/say.mjs";
import { may, me, proofOf } from "../shared/session.mjs";
import * as at from "./store.mjs";
import { outbox, reload, done, undone } from "./changes.mjs";
import { showImage, choose } from "./actions.mjs";
import { Modal } from "./modal.mjs";

const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

/** Open suggestions that the strict stop hides: the only ones that may be left unreviewed. */
function weakOnes() {
	return at.ordered.value.filter((f) => at.isOpen(f) && f.stop !== "strict");
}

export function Sign() {
	const [isReady, setReady] = useState(false);
	const [leaves, setLeaves] = useState(false);
	const [problem, setProblem] = useState(null);
	const [isBusy, setBusy] = useState(false);
	const form = useRef(null);
	useEffect(() => {
		let isHere = true;
		outbox.settled().then(() => reload(false)).then(() => isHere && setReady(true));
		return () => (isHere = false);
	}, []);
	const { sign } = at.study.value;
	const weak = weakOnes();
	const open = at.ordered.value.filter(at.isOpen);
	const canLeave = open.length > 0 && weak.length === open.length;
	const blockers = sign.blockers.filter((b) => !(b.kind === "undecided" && canLeave && leaves));
	const isOffline = at.saving.value.kind === "offline";
	const submit = async (event) => {
		event.preventDefault();
		const fields = new FormData(form.current);
		setBusy(true);
		setProblem(null);
		try {
			const answer = await call(`/api/studies/${at.study.value.id}/sign`, { body: {
				version: sign.next_version, content_hash: at.study.value.content_hash,
				left_unreviewed: leaves ? weak.map((f) => f.id) : [],
				reason: fields.get("reason") ?? "", ...proofOf(fields.get("password")),
			} });
			[done.value, undone.value] = [[], []];
			at.dialog.value = null;
			await reload(false);
			at.notice.value = { kind: "good", words: `Signed, version ${answer.version}.`, next: answer.next_study_id };
			say(`Signed by ${answer.signer_name}. Entries for the chart are on their way.`);
		} catch (refused) {
			setBusy(false);
			setProblem(refused);
			form.current.elements.password.value = "";
			form.current.elements.password.focus();
			if (refused.type === "not_signable") reload(false);
		}
	};
	const canSign = isReady && !blockers.length && !isOffline && !isBusy;
	const title = `Sign study: ${nameWords(at.study.value.patient)}, ${at.study.value.label} ${dayWords(at.study.value.study_date)}`;
	return html`<${Modal} title=${title}
			footer=${html`<span class="grow"></span>${isOffline && html`<span class="warning">Offline. Signing waits for the node.</span>`}
				<button class="primary" form="sign-form" disabled=${!canSign}>Sign <kbd>Enter</kbd></button>`}>
		<${Summary} open=${open.length} />
		${blockers.length > 0 && html`<${Blockers} blockers=${blockers} isReady=${isReady} />`}
		${canLeave && html`<label class="row"><input type="checkbox" checked=${leaves} onChange=${(e) => setLeaves(e.target.checked)} />
			Leave the ${plural(weak.length, "weak suggestion")} unreviewed. This is written into the record.</label>`}
		<${Destinations} />
		<form id="sign-form" ref=${form} onSubmit=${submit} class="signform">
			${problem?.blockers.some((b) => b.kind === "reason") && html`<label class="field">Reason for the amendment
				<input name="reason" minlength="3" maxlength="255" required autocomplete="off" /></label>`}
			<p class="statement">“${sign.statement}”</p>
			<input class="sr-only" type="text" tabindex="-1" aria-hidden="true" autocomplete="username" value=${me.value.username} readonly />
			<label class="field">${me.value.has_pin ? "PIN or password" : "Password"} of ${me.value.display_name}
				<input name="password" type="password" autocomplete="current-password" required maxlength="256" autofocus /></label>
			${problem && html`<div class="notice bad" role="alert">${problem.blockers.length
				? problem.blockers.map((b) => html`<p key=${b.kind}>${b.words}</p>`) : html`<p>${problem.words}</p>`}</div>`}
		</form>
	</${Modal}>`;
}

function Summary({ open }) {
	const images = at.images.value.filter((image) => image.grey);
	const broken = at.images.value.length - images.length;
	const seen = images.filter((image) => at.seen.value.has(image.id)).length;
	const notBare = images.filter((image) => !at.bareSeen.value.has(image.id));
	const all = at.ordered.value;
	const ai = all.filter((f) => f.origin === "ai");
	const count = (state) => ai.filter((f) => f.state === state).length;
	const added = all.length - ai.length;
	const plans = all.filter((f) => f.disposition);
	const unplanned = all.filter((f) => f.is_disease && ["accepted", "edited"].includes(f.state) && !f.disposition).length;
	return html`<dl class="summary">
		<dt>Images</dt><dd><strong>${seen} of ${images.length} seen.</strong> Bare image viewed on ${images.length - notBare.length}.
			${notBare.length > 0 && html`<span class="muted"> Not on: ${notBare.map((i) => at.imageWords(i, true)).join(", ")}.</span>`}
			${broken > 0 && html` <span class="danger">${plural(broken, "image")} cannot be read.</span>`}</dd>
		<dt>Suggestions</dt><dd><strong>${ai.length}:</strong> ${count("accepted")} accepted, ${count("edited")} edited, ${count("rejected")} rejected,
			<span class=${open ? "warning" : ""}> ${open} undecided</span>. ${added} added by you.</dd>
		<dt>Plan</dt><dd>${plans.length ? DISPOSITIONS.map(([value, words]) => [words, plans.filter((f) => f.disposition === value)])
			.filter(([, fs]) => fs.length).map(([words, fs]) => `${words}: ${fs.map((f) => at.toothWords(f.tooth) || "no tooth").join(", ")}`).join(". ") : "Nothing planned."}
			${unplanned > 0 && html`<span class="muted"> ${plural(unplanned, "finding")} without a plan; nothing is ordered for ${unplanned === 1 ? "it" : "them"}.</span>`}</dd></dl>`;
}

function Blockers({ blockers, isReady }) {
	if (!isReady) return html`<p class="muted" role="status">Saving the last decisions…</p>`;
	const go = (blocker) => {
		at.dialog.value = null;
		const id = blocker.ids[0];
		if (blocker.kind === "undecided") {
			at.stop.value = "wide";
			const finding = at.findings.value.get(id);
			if (finding) choose(finding);
		} else if (id) showImage(id);
	};
	return html`<div class="notice warn"><p><strong>Not yet:</strong></p>${blockers.map((blocker) => html`<div class="row" key=${blocker.kind}>
		<span>${blocker.words}</span>${blocker.ids.length > 0 && html`<button onClick=${() => go(blocker)}>Show</button>`}
		${blocker.kind === "unlinked" && may("patients.link") && html`<button onClick=${confirmPatient}>Confirm the patient</button>`}</div>`)}</div>`;
}

/** Both identities side by side, as the worklist asks; signing is opened again afterwards. */
async function confirmPatient() {
	at.dialog.value = null;
	(await import("./remedies.mjs")).link();
}

/** What will be written where. */
function Destinations() {
	const kept = at.ordered.value.filter((f) => ["accepted", "edited"].includes(f.state));
	const marked = new Set(kept.map((f) => f.image_id)).size;
	const planned = kept.filter((f) => f.disposition && f.disposition !== "none").length;
	return html`<dl class="summary"><dt>Will be written</dt><dd>
		<ul class="dest"><li>Chart: a note with ${plural(kept.length, "finding")}, a report (PDF), the images${marked ? `, ${plural(marked, "annotated image")}` : ""}</li>
		${planned > 0 && html`<li>Task: ${plural(planned, "planned item")}</li>`}
		<li>Image archive: structured report and annotated images, where a peer is set up</li></ul></dd></dl>`;
}
