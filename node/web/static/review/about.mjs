/** The fine print of the panel, and why there may be nothing to list. */

import { html } from "../vendor/preact.mjs";
import { NOT_CLEARED, SILENT } from "../shared/chrome.mjs";
import * as at from "./store.mjs";

/** Why there is no finding to list: never that there is no disease. */
export function Nothing() {
	const { state, settings } = at.study.value;
	if (settings.mode === "silent") return html`<p class="nothing">${SILENT} Your own marks work as usual: <kbd>N</kbd></p>`;
	if (["receiving", "analysing"].includes(state) && at.current.value?.state === "received") {
		return html`<p class="nothing">This image is still being analysed. You may read and add marks meanwhile: <kbd>N</kbd></p>`;
	}
	if (at.current.value?.state === "failed") return html`<p class="nothing">The AI failed on this image. Please read it without.</p>`;
	if (!at.study.value.models.length) return html`<p class="nothing"><strong>AI is off:</strong> no model looked at these images.
		Please read them and add what you see with <kbd>N</kbd></p>`;
	return html`<p class="nothing"><strong>No suggestions.</strong> That does not mean no disease; please read the image.
		Add what you see with <kbd>N</kbd></p>`;
}

const TASKS = {
	triage: "kind of view", panoramic_teeth: "teeth on panoramics", panoramic_caries: "caries on panoramics",
	intraoral: "teeth, caries and bone level on intraoral images",
};

/** Tasks for which no model is installed: said plainly, so that silence is not read as health. */
export function About() {
	const { absent, models, notes } = at.study.value;
	return html`<div class="about muted">
		${absent.length > 0 && html`<p class="notice warn"><strong>Not looked for by AI:</strong> ${absent.map((task) => TASKS[task] ?? task.replaceAll("_", " ")).join(", ")}.
			No model is installed for this.</p>`}
		${notes.map((note) => html`<p key=${note}>${note}</p>`)}
		${models.length > 0 && html`<p>Models: ${models.map((m) => `${m.name} ${m.version}`).join(", ")}</p>`}
		<p>${NOT_CLEARED}</p></div>`;
}
