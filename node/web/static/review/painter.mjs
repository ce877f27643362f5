/** Puts the current image on the stage: preview first, then the full image; one paint a frame. */

import { effect, untracked } from "../vendor/preact.mjs";
import { picture as fetchPicture } from "../shared/api.mjs";
import { ENTRIES, buildTable } from "../engine/grey.mjs";
import { makePicture, develop, paint, paintPreview } from "../engine/raster.mjs";
import { matrix } from "../engine/view.mjs";
import { noteView } from "./changes.mjs";
import { prefers } from "../shared/session.mjs";
import { current, images, isBare, isOverlayOn, isSharp } from "./store.mjs";
import { frames, loads, look, setLook, startDisplay, stageSize } from "./looks.mjs";

const SETTLE_MS = 140;
const KEPT = 3;

/** The picture of an image as it was painted last, for the loupe. */
export const paintedPicture = (id) => painter?.pictures.get(id) ?? null;
let painter = null;

export class Painter {
	constructor(canvas) {
		painter = this;
		this.canvas = canvas;
		this.pictures = new Map(); // image id -> picture, oldest first
		this.preview = null; // {id, bitmap}
		this.table = new Uint8Array(ENTRIES);
		this.developed = "";
		this.painted = "";
		this.request = 0;
		this.settle = 0;
		effect(() => {
			const image = current.value;
			untracked(() => image && this.show(image));
		});
		effect(() => {
			look.value;
			stageSize.value;
			loads.value;
			isSharp.value;
			this.schedule("low");
		});
		effect(() => {
			const isPlain = isBare.value || !isOverlayOn.value;
			const image = current.value;
			if (isPlain && image && loads.value.get(image.id) === "ready") untracked(() => noteView("bare_view", image.id));
		});
	}

	async show(image) {
		if (!image.grey || !image.rows) {
			this.mark(image.id, image.failure || "This image has no picture.");
			return;
		}
		if (!frames.peek(image.id)) {
			this.mark(image.id, "loading");
			this.showPreview(image.id);
		}
		try {
			const frame = await frames.get(image.id);
			if (!this.pictures.has(image.id)) this.keep(image.id, makePicture(frame));
			if (current.value?.id !== image.id) return;
			if (!look.value.display) setLook({ display: startDisplay(image) });
			this.mark(image.id, "ready");
			noteView("seen_image", image.id);
			const at = images.value.indexOf(image);
			frames.prefetch([at + 1, at + 2, at - 1].map((n) => images.value[n]).filter((i) => i?.grey).map((i) => i.id));
		} catch (problem) {
			this.mark(image.id, problem.words ?? problem.message);
		}
	}

	async showPreview(id) {
		const early = document.getElementById("first");
		const bitmap = await (early?.dataset.id === id ? early.decode().then(() => early) : fetchPicture(`/api/images/${id}/preview?w=900`)).catch(() => null);
		if (!bitmap || this.pictures.has(id)) return;
		this.preview = { id, bitmap };
		this.schedule("low");
	}

	/** Make the sharpened samples of a picture once, in a worker. */
	async sharpen(image, picture) {
		if (picture.isSharpening) return;
		picture.isSharpening = true;
		const { sharpen } = await import("../engine/filter.mjs");
		picture.sharp = await sharpen(picture.frame, image.grey);
		this.schedule("low");
	}

	mark(id, state) {
		loads.value = new Map(loads.value).set(id, state);
	}

	keep(id, picture) {
		this.pictures.set(id, picture);
		for (const old of this.pictures.keys()) {
			if (this.pictures.size <= KEPT) break;
			this.pictures.delete(old);
		}
		this.developed = "";
	}

	schedule(quality) {
		clearTimeout(this.settle);
		cancelAnimationFrame(this.request);
		this.request = requestAnimationFrame(() => this.draw(quality));
	}

	draw(quality) {
		const image = current.value;
		const seen = look.value;
		const size = stageSize.value;
		if (!size.width) return;
		const ratio = this.canvas.width / size.width;
		const m = seen ? matrix(seen.view, size) : null;
		const picture = image && this.pictures.get(image.id);
		if (picture && seen.display !== undefined) {
			this.develop(image, picture, seen);
			if (this.painted !== image.id) performance.mark("image-painted"); // for whoever measures
			this.painted = image.id;
			paint(this.canvas, picture, m, ratio, prefers("is_nearest") ? "nearest" : quality);
		} else if (image && this.preview?.id === image.id) {
			paintPreview(this.canvas, { width: image.columns, height: image.rows }, this.preview.bitmap, m, ratio);
		} else {
			paint(this.canvas, null);
			return;
		}
		document.getElementById("frame")?.remove();
		if (quality === "low") this.settle = setTimeout(() => this.schedule("medium"), SETTLE_MS);
	}

	develop(image, picture, { display, isInverted }) {
		if (image.grey.is_color || !display) return;
		const isSharpened = isSharp.value && picture.sharp;
		if (isSharp.value && !picture.sharp) this.sharpen(image, picture);
		const key = `${image.id} ${isInverted} ${Boolean(isSharpened)} ${JSON.stringify(display)}`;
		if (key === this.developed) return;
		develop(picture, buildTable(image.grey, display, isInverted, this.table), isSharpened || undefined);
		this.developed = key;
	}
}
