/** What was entered automatically: to be verified by people, with the errors found so far. */

import { html } from "../vendor/preact.mjs";
import { call } from "../shared/api.mjs";
import { attempt } from "../people/frame.mjs";

function percent(share) {
	return `${(100 * share).toFixed(0)} %`;
}

function Rate({ rate }) {
	if (!rate.decided) return html`<li>${rate.tag}: ${rate.entered} entered, ${rate.drawn} drawn, none verified yet</li>`;
	return html`<li>${rate.tag}: ${rate.wrong} of ${rate.decided} drawn and verified were wrong, ${percent(rate.wrong / rate.decided)} (${percent(rate.low)}–${percent(rate.high)}); ${rate.entered} entered</li>`;
}

export function Automatic({ auto, onChanged }) {
	const verify = (entry, isRight) =>
		attempt(async () => onChanged(await call(`/api/rollout/auto/${entry.id}`, { body: { is_right: isRight } })), isRight ? "Right." : "Noted as wrong.");
	return html`<section aria-labelledby="h-auto"><h2 id="h-auto">Automatic entries to verify</h2>
		${auto.rates.length === 0 ? html`<p>Nothing was entered automatically.</p>` : html`<ul class="plain">${auto.rates.map((rate) => html`<${Rate} key=${rate.tag} rate=${rate} />`)}</ul>`}
		${auto.entries.length > 0 && html`<div class="scrolls" tabindex="0" role="group" aria-label="Entries to verify"><table class="queue"><thead><tr><th scope="col">Study</th><th scope="col">Tag</th><th scope="col">Entered</th><th scope="col">Verify</th></tr></thead>
			<tbody>${auto.entries.map((entry) => html`<tr key=${entry.id}><td><a href=${`/review/${entry.study_id}`}>${entry.image === null ? "whole study" : `image ${entry.image}`}</a></td>
				<td>${entry.tag} ${entry.is_sampled && html`<span class="pill warn">drawn</span>`}</td><td>${entry.value}</td>
				<td><span class="actions"><button aria-label=${`${entry.tag} ${entry.value} is right`} onClick=${() => verify(entry, true)}>Right</button><button aria-label=${`${entry.tag} ${entry.value} is wrong`} onClick=${() => verify(entry, false)}>Wrong</button></span></td></tr>`)}</tbody></table></div>`}</section>`;
}
