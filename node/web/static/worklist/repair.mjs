/** Studies that need a person: link the patient, analyse again. Linking asks once, with both names side by side. */

import { html, signal, useEffect, useRef, useState } from "../vendor/preact.mjs";
import { call } from "../shared/api.mjs";
import { say } from "../shared/say.mjs";
import { may, me } from "../shared/session.mjs";
import { dayWords, nameWords, timeWords } from "../shared/chrome.mjs";
import { Retry } from "../shared/retry.mjs";

/** The row whose patient is being linked, or null. */
export const repairing = signal(null);

const LINKABLE = ["ambiguous", "unmatched", "suggested"];
const TITLES = {
	ambiguous: "Who is this? The images contradict the records.",
	unmatched: "No patient fits these images.",
	suggested: "Probably known: please confirm the patient.",
	failed: "The AI failed on an image.",
	unreadable: "An image cannot be read.",
	write_failed: "The practice system refused an entry.",
	rejected: "The sender took images back.",
	lettering: "A picture may name the patient.",
};

export function Problems({ rows, chosen, onChanged }) {
	if (!rows) return html`<div aria-busy="true"><div class="skeleton"></div></div>`;
	if (!rows.length) return html`<div class="empty"><h2>No problems</h2><p>Every study knows its patient and could be read.</p></div>`;
	return html`<ul class="plain">${rows.map((row, index) => html`<${Problem} key=${row.id} row=${row} index=${index}
		chosen=${chosen} onChanged=${onChanged} />`)}</ul>`;
}

function Problem({ row, index, chosen, onChanged }) {
	const kinds = new Set(row.problems.map((problem) => problem.kind));
	const link = LINKABLE.find((kind) => kinds.has(kind));
	const isBad = kinds.has("failed") || kinds.has("unreadable") || kinds.has("write_failed");
	return html`<li class=${`problem ${isBad && !link ? "bad" : ""} ${chosen.value === index ? "chosen" : ""}`}>
		<div class="grow">
			<strong><a id=${`row-${row.id}`} href=${`/review/${row.id}`} onFocus=${() => (chosen.value = index)}>${nameWords(row.patient)}</a></strong>
			<span class="muted"> ${row.label} · ${row.images} ${row.images === 1 ? "image" : "images"} · ${dayWords(row.study_date)}</span>
			${row.problems.map((problem) => html`<p key=${problem.kind + (problem.instance_id ?? "")}>
				<span class=${LINKABLE.includes(problem.kind) ? "warning" : "danger"}>${TITLES[problem.kind] ?? ""}</span>
				<span class="muted"> ${problem.words}</span>
				${problem.kind === "write_failed" && problem.receipt_id && may("writes.retry") && html` <${Retry} path=${`/api/receipts/${problem.receipt_id}/retry`} onChanged=${onChanged} />`}
				${problem.kind === "failed" && problem.instance_id && may("analysis.retry") && html` <${Retry} id=${problem.instance_id} onChanged=${onChanged} />`}
				${problem.kind === "lettering" && may("images.release") && html` <${Release} id=${problem.instance_id} onChanged=${onChanged} />`}</p>`)}
		</div>
		${link && may("patients.link") && html`<button class="primary" onClick=${() => (repairing.value = row)}>Link patient</button>`}
	</li>`;
}

/** Let a picture leave the practice that may name the patient: a person looked at it and says why. */
function Release({ id, onChanged }) {
	const [isAsking, setAsking] = useState(false);
	const release = async (event) => {
		event.preventDefault();
		const reason = new FormData(event.currentTarget).get("reason").trim();
		try {
			await call(`/api/images/${id}/release`, { body: { reason } });
			say("The picture may leave.");
			onChanged();
		} catch (problem) {
			say(problem.words);
		}
	};
	if (!isAsking) return html`<button onClick=${() => setAsking(true)}>I looked at it: let it leave</button>`;
	return html`<form class="row" onSubmit=${release}><label class="sr-only" for=${`why-${id}`}>Why it may leave</label>
		<input id=${`why-${id}`} name="reason" required minlength="3" maxlength="255" placeholder="What is written there" autocomplete="off" />
		<button class="primary">Let it leave</button></form>`;
}

/** The dialog: what the images say, who it may be, choose, confirm. */
export function Repair({ onChanged, onClosed }) {
	const row = repairing.value;
	const dialog = useRef(null);
	const [found, setFound] = useState(null);
	const [choice, setChoice] = useState(null);
	const [isConfirming, setConfirming] = useState(false);
	const [words, setWords] = useState("");
	useEffect(() => {
		dialog.current.showModal();
		call(`/api/studies/${row.id}/candidates`).then(setFound, (problem) => setWords(problem.words));
	}, []);
	const search = async (event) => {
		event.preventDefault();
		const text = new FormData(event.currentTarget).get("text").trim();
		if (text.length < 2) return;
		setChoice(null);
		setFound({ sender: found?.sender ?? null, candidates: null });
		try {
			const answer = await call("/api/patients/search", { body: { text } });
			setFound({ sender: found?.sender ?? null, candidates: answer.candidates });
			setWords(answer.candidates.length ? "" : "No patient found. Check the spelling, or the number.");
		} catch (problem) {
			setWords(problem.words);
		}
	};
	const link = async () => {
		try {
			await call(`/api/studies/${row.id}/link`, { body: { patient_id: choice.patient_id } });
			say(`Linked to ${nameWords(choice.patient)}.`);
			dialog.current.close();
			onChanged();
		} catch (problem) {
			setWords(problem.words);
			setConfirming(false);
		}
	};
	const close = () => {
		repairing.value = null;
		onClosed?.();
	};
	const sender = found?.sender ?? row.patient;
	return html`<dialog ref=${dialog} aria-labelledby="repair-title" onClose=${close}>
		<header role="none"><h2 id="repair-title">${isConfirming ? "Is this the same person?" : "Whose images are these?"}</h2>
			<span class="grow"></span><button onClick=${() => dialog.current.close()}>Close <kbd>Esc</kbd></button></header>
		<div class="body repair">
			${words && html`<p class="notice bad" role="alert">${words}</p>`}
			${isConfirming
				? html`<${Comparison} sender=${sender} choice=${choice} />
						<p class="notice warn">Nothing has been written to a chart yet. After linking, signed findings of this
						study go to this patient's chart.</p>`
				: html`<p>The images say: <strong>${nameWords(sender)}</strong>, born ${sender?.birth_date ?? "unknown"}.
						<span class="muted"> ${row.problems.map((problem) => problem.words).join(" ")}</span></p>
					<form class="row" onSubmit=${search}>
						<label class="sr-only" for="who">Search the practice's patients</label>
						<input id="who" name="text" minlength="2" maxlength="64" placeholder="Name or patient number" autocomplete="off" />
						<button>Search</button></form>
					<${Choices} found=${found} choice=${choice} setChoice=${setChoice} />`}
		</div>
		<footer role="none"><span class="grow"></span>
			${isConfirming
				? html`<button onClick=${() => setConfirming(false)}>Back</button>
						<button class="primary" disabled=${!may("patients.link")} onClick=${link}>Yes, link to ${nameWords(choice.patient)}</button>`
				: html`<button class="primary" disabled=${!choice} onClick=${() => setConfirming(true)}>Continue</button>`}
		</footer>
	</dialog>`;
}

export function Choices({ found, choice, setChoice }) {
	if (!found?.candidates) return html`<div class="skeleton" aria-busy="true"></div>`;
	if (!found.candidates.length) return html`<p class="muted">Nobody in the practice's records fits. Search by name or number.</p>`;
	return html`<div class="candidates" role="radiogroup" aria-label="Patients">${found.candidates.map((candidate) => html`
		<label class="candidate" key=${candidate.patient_id}>
			<input type="radio" name="candidate" checked=${choice?.patient_id === candidate.patient_id}
				onChange=${() => setChoice(candidate)} />
			<span><strong>${nameWords(candidate.patient)}</strong> <span class="muted">born ${candidate.patient.birth_date ?? "unknown"}
				· ${candidate.patient.sex || "sex unknown"} · no. ${candidate.pms_key}</span>
				<br /><span class="muted">${candidate.reason}</span></span>
			<span class="muted nowrap">${candidate.appointment_at ? `chair ${timeWords(candidate.appointment_at, me.value.settings.time_zone)}` : ""}</span>
		</label>`)}</div>`;
}

function Comparison({ sender, choice }) {
	const lines = [
		["Name", nameWords(sender), nameWords(choice.patient)],
		["Born", sender?.birth_date ?? "not sent", choice.patient.birth_date ?? "unknown"],
		["Sex", sender?.sex || "not sent", choice.patient.sex || "unknown"],
		["Patient number", "", choice.pms_key],
	];
	return html`<table class="compare"><thead><tr><th scope="col"></th><th scope="col">The images say</th>
		<th scope="col">The practice's record</th></tr></thead>
		<tbody>${lines.map(([what, left, right]) => html`<tr key=${what}><th scope="row" class="muted">${what}</th><td>${left}</td>
			<td class=${left && left !== right ? "differs" : ""}>${right}${left && left !== right ? "  (differs)" : ""}</td></tr>`)}</tbody></table>`;
}
