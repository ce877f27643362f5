/** Menus with a text field: tooth and surface, comment, go to tooth. */

import { html, useState } from "../vendor/preact.mjs";
import { SURFACES, readTooth, toothIn } from "../shared/teeth.mjs";
import { prefers } from "../shared/session.mjs";
import { alarm, say } from "../shared/say.mjs";
import { hasDepth } from "../shared/kinds.mjs";
import * as at from "./store.mjs";
import { change } from "./changes.mjs";
import { closeMenu, typedAhead } from "./menus.mjs";

/** The field has the focus as soon as it stands, so that no letter typed at once is lost. */
function takeFocus(field) {
	if (!field) return;
	field.select();
	field.focus();
	const typed = typedAhead();
	if (!typed) return;
	field.value = typed;
	field.dispatchEvent(new Event("input", { bubbles: true }));
}

const SYSTEMS = { universal: "Universal", fdi: "FDI", palmer: "Palmer, as LR6" };

export function ToothForm({ menu }) {
	const finding = at.findings.value.get(menu.id);
	const system = prefers("numbering");
	const [text, setText] = useState(toothIn(system, finding.tooth).replace("#", ""));
	const [surfaces, setSurfaces] = useState(finding.surfaces);
	const tooth = readTooth(system, text);
	const toggle = (letter) => setSurfaces(SURFACES.map(([l]) => l).filter((l) => (l === letter) !== surfaces.includes(l)).join(""));
	const keep = (event) => {
		event.preventDefault();
		if (tooth === undefined) return;
		const now = at.findings.value.get(menu.id);
		if (tooth !== now.tooth || surfaces !== now.surfaces) {
			change("set_tooth", now, { tooth, surfaces }, `Tooth ${at.toothWords(tooth)} ${surfaces}.`);
		}
		closeMenu();
		if (menu.isNew && hasDepth(now.kind)) at.menu.value = { kind: "depth", id: now.id };
	};
	return html`<form onSubmit=${keep} class="toothform">
		<label class="field">Tooth (${SYSTEMS[system]})
			<input ref=${takeFocus} value=${text} maxlength="3" size="4" autocomplete="off" aria-invalid=${String(tooth === undefined)}
				onInput=${(event) => setText(event.target.value)} /></label>
		${tooth === undefined && html`<p class="danger" role="alert">There is no tooth ${text}.</p>`}
		<div class="surfaces" role="group" aria-label="Surfaces">${SURFACES.map(([letter, words]) => html`<button type="button" key=${letter}
			title=${words} aria-label=${words} aria-pressed=${String(surfaces.includes(letter))} onClick=${() => toggle(letter)}>${letter}</button>`)}</div>
		<button class="primary">Keep <kbd>Enter</kbd></button></form>`;
}

export function CommentForm({ menu }) {
	const finding = at.findings.value.get(menu.id);
	const keep = (event) => {
		event.preventDefault();
		const text = document.getElementById("comment").value.trim();
		if (text !== finding.comment) change("comment", at.findings.value.get(menu.id), { text }, "Comment kept.");
		closeMenu();
	};
	const onKey = (event) => {
		if (event.key === "Enter" && !event.shiftKey) keep(event);
	};
	return html`<form onSubmit=${keep} class="toothform"><label class="sr-only" for="comment">Comment</label>
		<textarea id="comment" ref=${takeFocus} rows="3" maxlength="500" onKeyDown=${onKey}>${finding.comment}</textarea>
		<button class="primary">Keep <kbd>Enter</kbd></button></form>`;
}

export function GotoForm() {
	const go = (event) => {
		event.preventDefault();
		const tooth = readTooth(prefers("numbering"), document.getElementById("goto").value);
		const finding = tooth && at.ordered.value.find((f) => f.tooth === tooth);
		const image = finding ? at.images.value.find((i) => i.id === finding.image_id)
			: tooth && at.images.value.find((i) => i.teeth.some((t) => t.tooth === tooth));
		closeMenu();
		if (image) at.currentId.value = image.id;
		if (finding) at.selectedId.value = finding.id;
		say(finding ? at.findingWords(finding) : image ? `Tooth ${at.toothWords(tooth)}, no findings.` : "No such tooth on these images.");
	};
	return html`<form onSubmit=${go} class="row"><label class="sr-only" for="goto">Tooth</label>
		<input id="goto" ref=${takeFocus} size="5" maxlength="3" autocomplete="off" /><button class="primary">Go <kbd>Enter</kbd></button></form>`;
}

async function calibrate(points, knownMm) {
	closeMenu();
	(await import("./films.mjs")).calibrate(points, knownMm);
}

/** The length that a drawn line really has; every later length on this image rests on it. */
export function CalibrateForm({ menu }) {
	const keep = (event) => {
		event.preventDefault();
		const known = Number(new FormData(event.currentTarget).get("mm").replace(",", "."));
		if (!(known >= 0.5 && known <= 500)) return alarm("A known length lies between 0.5 and 500 mm.");
		return calibrate(menu.geometry.points, known);
	};
	return html`<form onSubmit=${keep} class="toothform">
		<label class="field">This line is how long, in mm?
			<input name="mm" ref=${takeFocus} size="6" maxlength="6" inputmode="decimal" autocomplete="off" required /></label>
		<p class="muted">A ball, a ruler or an instrument of known size, lying where the teeth are. Kept with your name.</p>
		<button class="primary">Keep <kbd>Enter</kbd></button>
		${at.current.value.calibration && html`<button type="button" onClick=${() => calibrate(null, null)}>Remove the calibration</button>`}</form>`;
}
