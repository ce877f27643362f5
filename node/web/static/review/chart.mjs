/** From the patient's chart: alerts first, then today, what is in the mouth, and earlier films. */

import { html, signal } from "../vendor/preact.mjs";
import { call } from "../shared/api.mjs";
import { dayWords } from "../shared/chrome.mjs";
import { fromUniversal, toothIn } from "../shared/teeth.mjs";
import { may, prefers } from "../shared/session.mjs";
import * as at from "./store.mjs";

const chart = signal(null);
const failure = signal("");
let asked = "";

/** Ask once for each patient that the study is linked to. */
function ask() {
	const { id, match, patient } = at.study.value;
	const key = `${id} ${match.state} ${patient?.family_name} ${patient?.given_name}`;
	if (asked === key || !may("patients.see")) return;
	asked = key;
	call(`/api/studies/${id}/chart`, { isBackground: true }).then((found) => (chart.value = found), (problem) => (failure.value = problem.words));
}

/** A tooth as the practice's system writes it (Universal), in the reader's numbering. */
const tooth = (text) => (text ? toothIn(prefers("numbering"), fromUniversal(text)) || `#${text}` : "");

export function Chart() {
	queueMicrotask(ask);
	const found = chart.value;
	if (failure.value) return html`<section class="reading" aria-label="From the chart"><p class="muted">The chart cannot be shown: ${failure.value}</p></section>`;
	if (!found?.is_known) return null;
	const { alerts, problems, medications, missing, today, charted, earlier, visit } = found;
	if (![alerts, problems, medications, missing, today, charted, earlier].some((list) => list.length)) return null;
	return html`<section class="reading chartside" aria-label="From the chart"><h2>From the chart</h2>
		${alerts.length > 0 && html`<p class="notice bad"><strong>Allergies:</strong> ${alerts.join("; ")}</p>`}
		${problems.length > 0 && html`<p><strong>Problems:</strong> ${problems.join("; ")}</p>`}
		${medications.length > 0 && html`<p><strong>Medication:</strong> ${medications.join("; ")}</p>`}
		${(today.length > 0 || visit) && html`<p><strong>Today:</strong> ${today.length ? today.map(lineWords).join("; ") : visit}</p>`}
		${missing.length > 0 && html`<p><strong>Missing:</strong> ${missing.map(tooth).join(", ")}</p>`}
		${charted.length > 0 && html`<details><summary>Charted <span class="muted">${charted.length}</span></summary>
			<ul>${charted.map((line, index) => html`<li key=${index}>${lineWords(line)} <small class="muted">${line.state}${line.day && `, ${line.day}`}</small></li>`)}</ul></details>`}
		${earlier.length > 0 && html`<details open><summary>Signed on earlier films <span class="muted">${earlier.length}</span></summary>
			${earlier.map((film) => html`<div key=${film.study_id}><a href=${`/review/${film.study_id}`}>${dayWords(film.study_date) || "No date"}</a>
				${film.findings.length ? html`<ul>${film.findings.map((line) => html`<li key=${line}>${line}</li>`)}</ul>` : html` <span class="muted">no findings recorded</span>`}</div>`)}</details>`}
	</section>`;
}

function lineWords(line) {
	return [tooth(line.tooth), line.surfaces, line.words || line.cdt_code].filter(Boolean).join(" ");
}
