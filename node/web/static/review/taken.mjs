/** What was taken back after a signature, and what came of it: each step, each receipt. */

import { html } from "../vendor/preact.mjs";
import { timeWords } from "../shared/chrome.mjs";
import * as at from "./store.mjs";
import { Line, keyWords, kindWords } from "./receipts.mjs";

export function Taken() {
	const { retractions, settings } = at.study.value;
	return retractions.map((taken) => html`<${Retraction} key=${taken.id} taken=${taken} zone=${settings.time_zone} />`);
}

function Retraction({ taken, zone }) {
	return html`<div class="notice warn"><p><strong>Version ${taken.version} taken back: ${taken.kind === "patient" ? "wrong patient" : "wrong finding"}</strong><br />
		${taken.by}, ${timeWords(taken.at, zone)}. ${taken.reason}</p>
		${taken.steps.length ? html`<ul>${taken.steps.map((step) => html`<li key=${step}>${step}</li>`)}</ul>` : html`<p role="status">Being carried out.</p>`}
		<ul class="plain">${taken.receipts.map((r) => html`<${Line} key=${r.id} item=${r} words=${kindWords(r.kind)} keys=${keyWords(r.receipt)} isWrite=${true} />`)}</ul></div>`;
}
