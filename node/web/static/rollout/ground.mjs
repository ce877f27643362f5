/** On what ground findings are shown: the comparison with the dentist, and the acknowledgement. */

import { html, signal } from "../vendor/preact.mjs";
import { timeWords } from "../shared/chrome.mjs";
import { me } from "../shared/session.mjs";

const isReading = signal(false);

function share(one) {
	return one.value === null ? "–" : `${one.value.toFixed(2)} (${one.low.toFixed(2)}–${one.high.toFixed(2)})`;
}

function Report({ report }) {
	return html`<h3>Comparison of ${timeWords(report.made_at, me.value.settings.time_zone)}</h3>
		<p>${report.source === "pilot" ? "Historical films against the chart" : "In silence, against what dentists marked alone"}: ${report.studies} studies, ${report.patients} patients, ${report.images} images. ${report.models.join(", ")}</p>
		${report.rows.length > 0 && html`<div class="scrolls" tabindex="0" role="group" aria-label="Agreement"><table class="queue"><thead><tr><th scope="col">View</th><th scope="col">Kind</th><th scope="col">Per</th><th scope="col">Studies</th><th scope="col">Dentist</th><th scope="col">Models</th><th scope="col">Both</th><th scope="col">Sensitivity</th><th scope="col">Precision</th></tr></thead>
			<tbody>${report.rows.map((row) => html`<tr key=${row.view + row.kind + row.level}><td>${row.view || "all"}</td><td>${row.kind.replaceAll("_", " ")}</td><td>${row.level}</td><td>${row.studies}</td><td>${row.signed}</td><td>${row.said}</td><td>${row.both}</td>
				<td class="nowrap">${share(row.sensitivity)}</td><td class="nowrap">${share(row.precision)}${row.is_few && html` <small>too few to say</small>`}</td></tr>`)}</tbody></table></div>`}
		<ul class="plain">${report.notes.map((note) => html`<li key=${note}><small>${note}</small></li>`)}</ul>`;
}

function Acknowledge({ found, act }) {
	const report = found.reports[0];
	const give = async (event) => {
		event.preventDefault();
		const form = event.currentTarget;
		const password = new FormData(form).get("password");
		if (await act("Acknowledged.", "/acknowledge", { report_id: report.id, text: found.text, password })) isReading.value = false;
		else form.reset();
	};
	if (!isReading.value) return html`<div><button class="primary" onClick=${() => (isReading.value = true)}>Read and acknowledge</button></div>`;
	return html`<pre class="paper" tabindex="0" role="group" aria-label="What you acknowledge">${found.text}</pre>
		<form onSubmit=${give}><label class="field">Your password <input name="password" type="password" required autocomplete="current-password" /></label>
			<label class="field"><span><input type="checkbox" required /> I have read this and acknowledge it as the clinical lead.</span></label>
			<div class="actions"><button class="primary">Acknowledge</button><button type="button" onClick=${() => (isReading.value = false)}>Not now</button></div></form>`;
}

export function Ground({ found, act }) {
	const { acknowledgement: given, may, reports, models } = found;
	return html`<section aria-labelledby="h-ground"><h2 id="h-ground">Comparison and acknowledgement</h2>
		${given
			? html`<p class="notice good">Acknowledged by ${given.name}, ${timeWords(given.given_at, me.value.settings.time_zone)}: ${given.models.join(", ")}</p>`
			: html`<p class="notice warn">Nobody has acknowledged the installed models${models.length ? ` (${models.map((one) => `${one.name} ${one.version}`).join(", ")})` : ""}. No finding of theirs is shown.</p>`}
		<p class="muted">Before a finding is shown, ${found.min_studies} studies must have been compared in silence, on the views it is shown on.</p>
		${may.lead && html`<div class="actions"><button onClick=${() => act("Compared.", "/reports")}>Compare what was silent now</button>
			${given && html`<button class="danger" onClick=${() => act("Withdrawn: no finding is shown.", "/withdraw")}>Withdraw the acknowledgement</button>`}</div>`}
		${reports.length === 0 ? html`<p>Nothing was compared yet. For historical films: <code>bitewing pilot</code>.</p>` : html`<${Report} report=${reports[0]} />`}
		${may.lead && reports.length > 0 && models.length > 0 && html`<${Acknowledge} found=${found} act=${act} />`}</section>`;
}
