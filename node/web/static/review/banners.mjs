/** What is under way with the study, or went wrong: analysis, suggestions that came, images that AI could not read. */

import { batch, html } from "../vendor/preact.mjs";
import { SILENT } from "../shared/chrome.mjs";
import { may } from "../shared/session.mjs";
import * as at from "./store.mjs";
import { retry } from "./remedies.mjs";

const STATE_WORDS = { receiving: "Images are still arriving.", analysing: "Analysing" };

export function Banners({ study }) {
	const words = STATE_WORDS[study.state];
	const failed = study.images.filter((image) => image.state === "failed");
	const count = at.arrived.value.length;
	return [
		study.settings.mode === "silent" && html`<p class="notice warn">${SILENT}</p>`,
		words && html`<p class="notice" role="status">${words}${study.state === "analysing"
			? ` ${study.progress.done} of ${study.progress.total}. You may read and add marks meanwhile.` : " You may start reading."}</p>`,
		count > 0 && html`<p class="notice good">${count} suggestions arrived
			<button onClick=${showArrived}>Show</button></p>`,
		failed.length > 0 && html`<p class="notice bad">AI could not read ${failed.map((i) => at.imageWords(i)).join(", ")}: ${failed[0].failure}
			${may("analysis.retry") && html`<button onClick=${() => retry(failed)}>Retry now</button>`} Or review without AI.</p>`,
	];
}

/** Show the suggestions that came while reading. */
function showArrived() {
	const next = new Map(at.findings.value);
	for (const finding of at.arrived.value) next.set(finding.id, finding);
	batch(() => {
		at.findings.value = next;
		at.arrived.value = [];
	});
}
