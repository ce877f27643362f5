/**
 * The picture: 16-bit samples -> table -> canvas of native size -> stage by the view matrix.
 *
 * Nothing here knows findings, a framework or the network. `paint` is called at most once a frame
 * by its owner.
 */

/** Make an off-screen picture of one frame: {width, height, samples} or {width, height, bitmap}. */
export function makePicture(frame) {
	const canvas = document.createElement("canvas");
	canvas.width = frame.width;
	canvas.height = frame.height;
	const context = canvas.getContext("2d", { willReadFrequently: false, alpha: false });
	const picture = { frame, canvas, context, data: null, words: null };
	if (frame.bitmap) {
		context.drawImage(frame.bitmap, 0, 0);
	} else {
		picture.data = context.createImageData(frame.width, frame.height);
		picture.words = new Uint32Array(picture.data.data.buffer);
	}
	return picture;
}

const isLittleEndian = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

/** Put every sample through the grey table; colour photographs are left as they are. */
export function develop(picture, table, samples = picture.frame.samples) {
	if (!picture.words) return;
	const words = packTable(table);
	const out = picture.words;
	for (let i = 0, n = samples.length; i < n; i += 1) out[i] = words[samples[i]];
	picture.context.putImageData(picture.data, 0, 0);
}

const packed = new Uint32Array(65536);
function packTable(table) {
	for (let i = 0; i < 65536; i += 1) {
		const g = table[i];
		packed[i] = isLittleEndian
			? (0xff000000 | (g << 16) | (g << 8) | g) >>> 0
			: ((g << 24) | (g << 16) | (g << 8) | 0xff) >>> 0;
	}
	return packed;
}

/** Draw the picture on the stage's canvas; `m` maps image pixels to CSS pixels. */
export function paint(canvas, picture, m, ratio, quality) {
	const context = canvas.getContext("2d", { alpha: false });
	context.setTransform(1, 0, 0, 1, 0, 0);
	context.fillStyle = "#000";
	context.fillRect(0, 0, canvas.width, canvas.height);
	if (!picture) return;
	context.setTransform(
		m[0] * ratio, m[1] * ratio, m[2] * ratio, m[3] * ratio, m[4] * ratio, m[5] * ratio,
	);
	context.imageSmoothingEnabled = quality !== "nearest";
	if (quality !== "nearest") context.imageSmoothingQuality = quality;
	context.drawImage(picture.canvas, 0, 0);
}

/** Draw a preview in the place of a picture that is still on its way. */
export function paintPreview(canvas, image, bitmap, m, ratio) {
	const context = canvas.getContext("2d", { alpha: false });
	context.setTransform(1, 0, 0, 1, 0, 0);
	context.fillStyle = "#000";
	context.fillRect(0, 0, canvas.width, canvas.height);
	context.setTransform(
		m[0] * ratio, m[1] * ratio, m[2] * ratio, m[3] * ratio, m[4] * ratio, m[5] * ratio,
	);
	context.drawImage(bitmap, 0, 0, image.width, image.height);
}
