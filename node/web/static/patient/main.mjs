/** What the patient sees: signed findings in plain words, ringed on the picture. Leaving shows nothing. */

import { html, render, signal } from "../vendor/preact.mjs";
import { boot } from "../shared/api.mjs";
import { dayWords } from "../shared/chrome.mjs";
import { startSession } from "../shared/session.mjs";

const start = boot();
const showsMarks = signal(true);
const isDone = signal(false);

function Page({ page }) {
	if (isDone.value) return html`<main class="patient"><div class="gone"><h1>${page.practice_name}</h1><p>Thank you.</p></div></main>`;
	const name = [page.patient?.given_name, page.patient?.family_name].filter(Boolean).join(" ");
	return html`<main class="patient">
		<header><h1>What your dentist found</h1><span class="grow"></span>
			<button class="noprint" aria-pressed=${String(showsMarks.value)} onClick=${() => (showsMarks.value = !showsMarks.value)}>Marks ${showsMarks.value ? "on" : "off"}</button>
			<a class="button noprint" href=${`/api/studies/${start.study_id}/patient-page.pdf`} target="_blank">Print or save (PDF)</a>
			<button class="noprint" onClick=${finish}>Done</button></header>
		<p>${name && html`<strong>${name}</strong>. `}Your X-rays${page.study_date ? ` of ${spelled(page.study_date)}` : ""}, read and signed by ${page.signed_by}. ${page.ai_words}</p>
		<div class="two"><div class="films">${page.pictures.map((picture) => html`<${Film} key=${picture.image_id} picture=${picture} items=${page.items.filter((item) => item.image_id === picture.image_id)} />`)}</div>
		${page.items.length ? html`<ol>${page.items.map((item) => html`<${Item} key=${item.number} item=${item} />`)}</ol>`
			: html`<p>Your dentist marked nothing on these X-rays.</p>`}</div>
		<section><h2>You may want to ask</h2><ul>${page.questions.map((question) => html`<li key=${question}>${question}</li>`)}</ul></section>
		<footer>${page.practice_name}. Written for about reading grade ${Math.round(page.reading_grade)}.</footer>
	</main>`;
}

/** A day as people write it: January 5, 2026. */
function spelled(day) {
	const at = new Date(`${dayWords(day)}T12:00`);
	return Number.isNaN(at.getTime()) ? dayWords(day) : at.toLocaleDateString("en-US", { dateStyle: "long" });
}

/** Done: a neutral screen, never the worklist. */
function finish() {
	isDone.value = true;
	document.title = "Thank you";
	history.replaceState(null, "", location.pathname);
}

function Item({ item }) {
	return html`<li class="item"><h2>(${item.number}) ${item.title}</h2>
		${item.where && html`<p class="change">${item.where}</p>`}
		<p>${item.meaning}</p>
		${item.change && html`<p class="change">${item.change}</p>`}
		<p><strong>If we wait:</strong> ${item.waiting}</p><p><strong>Next:</strong> ${item.plan}</p></li>`;
}

function Film({ picture, items }) {
	const { rows, columns } = picture;
	const size = columns / 28;
	return html`<figure><img src=${`/api/images/${picture.image_id}/preview?w=900`} alt=${`Your X-ray. ${items.map((item) => `${item.number}: ${item.title}, ${item.where}`).join(". ")}`} />
		${showsMarks.value && html`<svg viewBox=${`0 0 ${columns} ${rows}`} aria-hidden="true">${items.map((item) => {
			const [cx, cy, rx, ry] = ringOf(item.geometry.points, columns);
			return html`<g key=${item.number}><ellipse class="ring under" cx=${cx} cy=${cy} rx=${rx} ry=${ry} /><ellipse class="ring over" cx=${cx} cy=${cy} rx=${rx} ry=${ry} />
				<text class="ringnumber" x=${Math.min(cx + rx + size * 0.2, columns - size)} y=${Math.max(cy - ry * 0.6, size)} font-size=${size}>${item.number}</text></g>`;
		})}</svg>`}</figure>`;
}

/** An ellipse with room around the mark, so that nothing covers what it shows. */
function ringOf(points, columns) {
	const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
	const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
	const room = Math.max(columns / 60, 0.35 * Math.max(x1 - x0, y1 - y0));
	return [(x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2 + room, (y1 - y0) / 2 + room];
}

if (start.me) startSession(start.me);
if (start.patient_page) render(html`<${Page} page=${start.patient_page} />`, document.getElementById("app"));
else addEventListener("bitewing-unlocked", () => location.reload());
