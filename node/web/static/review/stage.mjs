/** The stage: the radiograph, its marks, and what to say when there is nothing to show. */

import { effect, html } from "../vendor/preact.mjs";
import { scaleOf, spacingWords } from "../engine/measure.mjs";
import { displayWords } from "../engine/grey.mjs";
import { Retry } from "../shared/chrome.mjs";
import { may } from "../shared/session.mjs";
import * as at from "./store.mjs";
import { isStanding, loads, look, stageSize } from "./looks.mjs";
import { Menu } from "./menus.mjs";
import { Overlay } from "./overlay.mjs";
import { Painter } from "./painter.mjs";
import { arm, toolWords } from "./draw.mjs";

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
		<${Failure} image=${image} />
		<${Menu} />
	</div>`;
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

function Failure({ image }) {
	if (!image) {
		return html`<div class="over"><h2>No images in this study yet</h2><p>They appear here as soon as they arrive.</p></div>`;
	}
	const load = loads.value.get(image.id);
	if (!load || load === "loading" || load === "ready") return null;
	return html`<div class="over" role="alert"><h2>This image cannot be shown</h2><p>${load}</p>
		<p class="muted">The other images are not affected. The file is kept as it was received.</p>
		<div class="row">
			${may("images.download") && html`<a class="button" href=${`/api/images/${image.id}/dicom`} download>Download DICOM</a>`}
			${may("analysis.retry") && html`<${Retry} id=${image.id} />`}</div></div>`;
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
