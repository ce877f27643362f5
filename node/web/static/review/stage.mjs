/** The stage: the radiograph, its marks, and what to say when there is nothing to show. */

import { effect, html } from "../vendor/preact.mjs";
import { scaleOf, spacingWords } from "../engine/measure.mjs";
import { displayWords } from "../engine/grey.mjs";
import * as at from "./store.mjs";
import { isStanding, loads, look, stageSize } from "./looks.mjs";
import { Late } from "./late.mjs";
import { Menu } from "./menus.mjs";
import { Overlay } from "./overlay.mjs";
import { Painter } from "./painter.mjs";
import { arm, toolWords } from "./tools.mjs";

/** Begin to paint and to take gestures; the stage stands as long as the page. */
function begin(stage) {
	if (!stage) return;
	const canvas = stage.querySelector("canvas");
	const fitCanvas = () => {
		const { width, height } = stage.getBoundingClientRect();
		const ratio = devicePixelRatio || 1;
		canvas.width = Math.round(width * ratio);
		canvas.height = Math.round(height * ratio);
		stageSize.value = { width, height };
	};
	stage.ariaBusy = "true";
	fitCanvas();
	new ResizeObserver(fitCanvas).observe(stage);
	new Painter(canvas);
	effect(() => {
		if (isStanding.value) import("./gestures.mjs").then(({ attach }) => [attach(stage), (stage.ariaBusy = "false")]);
	});
	stage.focus({ preventScroll: true });
}

export function Stage() {
	const image = at.current.value;
	const count = at.onImage.value.filter((f) => f.state !== "rejected").length;
	const label = image ? `${at.imageWords(image)}, ${count} ${count === 1 ? "finding" : "findings"}` : "No image";
	return html`<div class=${`stage tool-${at.tool.value}`} id="stage" ref=${begin} tabindex="0" role="application"
			aria-roledescription="radiograph" aria-label=${label}>
		<canvas aria-hidden="true"></canvas>
		<${Overlay} />
		<${Corner} image=${image} />
		${!canShow(image) && html`<${Late} name="Failure" load=${() => import("./failure.mjs")} image=${image} />`}
		<${Menu} />
	</div>`;
}

/** Whether there is a picture, or one on its way. */
function canShow(image) {
	return image && ["loading", "ready", undefined].includes(loads.value.get(image.id));
}

/** Words on the picture's corners: which image, which tool, what is hidden. */
function Corner({ image }) {
	if (!image) return null;
	const words = toolWords();
	const isPlain = at.isBare.value || !at.isOverlayOn.value;
	return html`<div class="corner top-left">${at.imageWords(image)}
			${loads.value.get(image.id) === "loading" && html` <span class="muted late">loading full image</span>`}</div>
		<div class="corner top-right">${at.isSharp.value && html`<span class="pill">SHARP</span> `}
			${isPlain && html`<span class="pill warn">Marks hidden</span>`}</div>
		${words && html`<div class="corner mode" aria-hidden="true">${words} <kbd>Esc</kbd></div>`}`;
}

/** The read-out under the picture. */
export function ReadOut() {
	const image = at.current.value;
	const seen = look.value;
	if (!image || !seen) return null;
	return html`<span class="readout" aria-live="off">
		<span>${seen.display ? displayWords(seen.display) : "colour"}</span>
		<span>${Math.round(seen.view.zoom * (devicePixelRatio || 1) * 100)} %</span>
		<span class=${image.spacing.kind === "calibrated" ? "" : "muted"}>${spacingWords(scaleOf(image), image.view === "panoramic")}</span>
		${scaleOf(image).kind === "unknown" && at.canDecide.value && html`<button class="quiet" onClick=${() => arm("calibrate")}>Calibrate</button>`}
	</span>`;
}
