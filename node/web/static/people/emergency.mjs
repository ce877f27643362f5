/** Opening a study in an emergency: why, and for how long. */

import { html, signal } from "../vendor/preact.mjs";
import { call } from "../shared/api.mjs";
import { timeWords } from "../shared/chrome.mjs";
import { me } from "../shared/session.mjs";
import { attempt, open, start } from "./frame.mjs";

const opened = signal(null);

function ask(event) {
	event.preventDefault();
	const fields = new FormData(event.currentTarget);
	attempt(async () => {
		const place = start.study_id ? { study_id: start.study_id } : { patient_number: fields.get("patient_number") };
		opened.value = await call("/api/emergencies", { body: { ...place, reason: fields.get("reason") } });
		if (opened.value.studies.length === 1) location.assign(`/review/${opened.value.studies[0]}`);
	}, "Opened.");
}

function Page() {
	return html`<section><p class="notice warn">Your role does not see patients' images. In an emergency you may open ${start.study_id ? "this study" : "a patient's studies"} for a short time.
			Your name, the time and your reason are recorded and shown to the office manager and the auditor.</p>
		<form onSubmit=${ask}>
			${!start.study_id && html`<label class="field">Patient's number in the practice system <input name="patient_number" required maxlength="64" autocomplete="off" /></label>`}
			<label class="field">Why must it be opened now? <textarea name="reason" required minlength="10" maxlength="500" rows="3"></textarea></label>
			<div class="actions"><button class="primary">Open for a short time</button><a class="button" href="/">Back</a></div></form>
		${opened.value && html`<div class="notice good" role="status"><p>Open until ${timeWords(opened.value.expires_at, me.value.settings.time_zone)}:</p>
			<p>${opened.value.studies.map((id, number) => html`<a key=${id} class="button" href=${`/review/${id}`}>Study ${number + 1}</a> `)}</p></div>`}</section>`;
}

open("Open in an emergency", Page);
