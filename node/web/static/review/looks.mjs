/** How each image is looked at: its view, window and inversion, and the pictures themselves. */

import { signal, computed } from "../vendor/preact.mjs";
import { bytes, picture } from "../shared/api.mjs";
import { Frames } from "../engine/frames.mjs";
import { clamp, fit } from "../engine/view.mjs";
import { firstDisplay, lutWindow, windowDisplay } from "../engine/grey.mjs";
import { current, images, study } from "./store.mjs";

/** Size of the stage in CSS pixels. */
export const stageSize = signal({ width: 0, height: 0 });
/** image id -> {view, display, isInverted, isFitted}. */
export const looks = signal(new Map());
/** image id -> "loading", "ready" or the words of a failure. */
export const loads = signal(new Map());

/** Whether the first picture stands, or cannot: what it need not wait for is fetched then. */
export const isStanding = computed(() => [...loads.value.values()].some((state) => state !== "loading") || !current.value);

/** Frames of the study. Colour photographs come as pictures, everything else as 16-bit samples. */
export const frames = new Frames(async (id) => {
	const image = images.value.find((candidate) => candidate.id === id);
	const width = image.columns;
	const height = image.rows;
	if (image.grey.is_color) {
		const bitmap = await picture(`/api/images/${id}/color`);
		return { width, height, bitmap, bytes: width * height * 4 };
	}
	const buffer = await bytes(`/api/images/${id}/pixels`);
	if (buffer.byteLength !== width * height * 2) throw new Error("The image came incomplete.");
	return { width, height, samples: samplesOf(buffer), bytes: buffer.byteLength };
});

/** Little-endian 16-bit samples on any machine. */
function samplesOf(buffer) {
	if (new Uint8Array(new Uint16Array([1]).buffer)[0] === 1) return new Uint16Array(buffer);
	const view = new DataView(buffer);
	return Uint16Array.from({ length: buffer.byteLength / 2 }, (_, i) => view.getUint16(2 * i, true));
}

/** Width and height of an image as the engine wants them. */
export function sizeOf(image) {
	return { width: image.columns, height: image.rows };
}

/** The look of the current image, fitted as long as the reader has not moved it. */
export const look = computed(() => {
	const image = current.value;
	if (!image?.rows) return null;
	const known = looks.value.get(image.id) ?? { view: null, display: null, isInverted: false };
	if (known.view) return known;
	const hang = study.value.mount.hangs.find((each) => each.image_id === image.id);
	const { turns = hang?.quarter_turns ?? 0, mirror = hang?.is_mirrored ?? false } = known;
	return { ...known, view: fit(sizeOf(image), stageSize.value, turns, mirror) };
});

/** Change the look of the current image. */
export function setLook(patch) {
	const image = current.value;
	if (!image || !look.value) return;
	const next = new Map(looks.value);
	next.set(image.id, { ...(looks.value.get(image.id) ?? { view: null, display: null, isInverted: false }), ...patch });
	looks.value = next;
}

/** Fit the image again, keeping turns and mirroring. */
export function fitAgain() {
	const { turns, mirror } = look.value.view;
	setLook({ view: null, turns, mirror });
}

/** The display an image starts with. */
export function startDisplay(image) {
	return image.grey && !image.grey.is_color ? firstDisplay(image.grey) : null;
}

/** Show the image's next window: its LUT, then its windows. */
export function nextWindow() {
	const { grey } = current.value;
	const { display } = look.value;
	const all = [
		...(grey.voi_lut ? [{ kind: "lut" }] : []),
		...grey.windows.map((window) => windowDisplay(grey, window)),
	];
	const same = (d) => d.kind === display.kind && d.center === display.center && d.width === display.width;
	setLook({ display: all[(all.findIndex(same) + 1) % all.length] });
}

/** Move window width and level by parts of the present width. */
export function dragWindow(from, dx, dy) {
	const { grey } = current.value;
	const base = from.kind === "lut" ? lutWindow(grey) : from;
	const width = clamp(base.width * Math.exp(dx / 300), 1, 131072);
	setLook({ display: { ...base, width, center: base.center + (dy / 400) * base.width } });
}
