/** A tooth now and before, laid over itself: side by side, wiped, blinking, or the difference. */

import { html, useEffect, useState } from "../vendor/preact.mjs";
import { dayWords } from "../shared/chrome.mjs";
import { say } from "../shared/say.mjs";
import * as at from "./store.mjs";
import { LinkedFilms as Linked } from "./linked.mjs";

/** Half a period of 1.5 Hz; three a second or more is never reached (WCAG 2.3.1). */
const BLINK_MS = 333;
const MODES = [["side", "Side by side"], ["linked", "Whole films, linked"], ["wipe", "Wipe"], ["blink", "Blink"], ["difference", "Difference"]];

function openNow(dialog) {
	if (dialog && !dialog.open) dialog.showModal();
}

export function Compare() {
	const number = at.comparing.value;
	const facts = at.study.value.reading?.facts;
	const registration = facts?.registrations[number];
	const [mode, setMode] = useState("side");
	const [share, setShare] = useState(50);
	const [isBlinking, setBlinking] = useState(false);
	const [showsPrior, setPrior] = useState(false);
	useEffect(() => {
		if (mode !== "blink" || !isBlinking) return undefined;
		const timer = setInterval(() => setPrior((shown) => !shown), BLINK_MS);
		return () => clearInterval(timer);
	}, [mode, isBlinking]);
	const close = () => {
		at.dialog.value = null;
		document.getElementById("stage")?.focus({ preventScroll: true });
	};
	const choose = (name) => {
		setMode(name);
		setPrior(name === "blink");
		setBlinking(name === "blink" && !matchMedia("(prefers-reduced-motion: reduce)").matches);
	};
	const key = (event) => {
		if (event.key === "b" || event.key === "B") choose(mode === "blink" ? "side" : "blink");
	};
	if (!registration) return null;
	const changes = facts.changes.filter((c) => c.registration === number);
	const url = (part) => `/api/studies/${at.study.value.id}/comparisons/${number}/${part}`;
	const before = changes[0]?.prior_date ?? "before";
	const now = dayWords(at.study.value.study_date);
	return html`<dialog class="compare" ref=${openNow} aria-labelledby="compare-title" onCancel=${close} onClose=${close} onKeyDown=${key}>
		<header role="none"><h2 id="compare-title">${at.toothWords(registration.tooth)}: ${before} and ${now}</h2><span class="grow"></span>
			<button onClick=${(event) => event.target.closest("dialog").close()}>Back <kbd>Esc</kbd></button></header>
		<div class="body">
			<div class="row" role="group" aria-label="How to compare">${MODES.map(([name, words]) => html`<button key=${name}
				aria-pressed=${String(mode === name)} onClick=${() => choose(name)}>${words}${name === "blink" ? html` <kbd>B</kbd>` : ""}</button>`)}
				${mode === "blink" && html`<button onClick=${() => setBlinking(!isBlinking)}>${isBlinking ? "Pause" : "Go on"}</button>`}</div>
			<${Alignment} registration=${registration} />
			${mode === "side" && html`<div class="films two"><${Film} src=${url("before")} words=${before} /><${Film} src=${url("now")} words=${`${now}, now`} /></div>`}
			${mode === "linked" && html`<${Linked} registration=${registration} words=${[before, `${now}, now`]} />`}
			${mode === "difference" && html`<div class="films two"><${Film} src=${url("now")} words=${`${now}, now`} />
				<${Film} src=${url("difference")} words="Difference: orange darker, blue lighter than before" /></div>`}
			${mode === "blink" && html`<div class="films"><${Film} src=${url(showsPrior ? "before" : "now")} words=${showsPrior ? before : `${now}, now`} preload=${url("now")} /></div>`}
			${mode === "wipe" && html`<div class="films"><figure><div class="wipe"><img src=${url("now")} alt=${`Tooth on ${now}`} />
				<img class="over" src=${url("before")} alt=${`Tooth on ${before}`} style=${{ clipPath: `inset(0 ${100 - share}% 0 0)` }} /></div>
				<figcaption>${before} left, ${now} right</figcaption></figure>
				<label class="row">Wipe <input type="range" min="0" max="100" value=${share} onInput=${(e) => setShare(Number(e.target.value))} /></label></div>`}
			<ul>${changes.map((c) => html`<li key=${c.words}>${c.words}</li>`)}</ul>
			<p class="muted">The earlier film is moved and matched in grey to lie over the current one. An aid for looking, not a measurement.</p>
		</div></dialog>`;
}

function Alignment({ registration }) {
	const residual = registration.residual_mm === null ? "no pixel spacing" : `residual ${registration.residual_mm.toFixed(2)} mm`;
	const words = `Alignment: automatic, ${residual}, correlation ${registration.correlation.toFixed(2)}`;
	return registration.is_usable
		? html`<p class="muted">${words} <span class="pill good">good</span></p>`
		: html`<p class="warning">${words}. Look only: ${registration.reason}.</p>`;
}

function Film({ src, words, preload }) {
	return html`<figure><img src=${src} alt=${`Tooth, ${words}`} />${preload && html`<img src=${preload} alt="" hidden />`}<figcaption>${words}</figcaption></figure>`;
}

/** The comparison that fits where the reader is: the selected tooth, else any of this image. */
export function compareHere() {
	const all = at.study.value.reading?.facts?.registrations ?? [];
	const here = all.map((r, index) => ({ ...r, index })).filter((r) => r.instance_id === at.currentId.value && r.correlation > 0);
	const found = here.find((r) => r.tooth === at.selected.value?.tooth) ?? here.find((r) => r.is_usable) ?? here[0];
	if (found) [at.comparing.value, at.dialog.value] = [found.index, "Compare"];
	else say("No earlier film shows the teeth of this image.");
}
