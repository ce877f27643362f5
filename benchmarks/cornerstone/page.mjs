/** One 16-bit image in a Cornerstone3D stack viewport; `window.rendered` is when it stood, in ms. */

import { Enums, RenderingEngine, eventTarget, imageLoader, init, metaData, setUseCPURendering } from "@cornerstonejs/core";

const about = await (await fetch("about.json")).json();

async function load(imageId) {
	const samples = new Uint16Array(await (await fetch("pixels")).arrayBuffer());
	const { rows, columns, center, width } = about;
	let [low, high] = [65535, 0];
	for (const sample of samples) [low, high] = [Math.min(low, sample), Math.max(high, sample)];
	return {
		imageId, rows, columns, height: rows, width: columns, color: false, rgba: false, numberOfComponents: 1,
		slope: 1, intercept: 0, windowCenter: center, windowWidth: width, voiLUTFunction: "LINEAR",
		minPixelValue: low, maxPixelValue: high, columnPixelSpacing: 1, rowPixelSpacing: 1, invert: false,
		sizeInBytes: samples.byteLength, dataType: "Uint16Array", getPixelData: () => samples,
	};
}

function meta(type) {
	const { rows, columns, center, width } = about;
	if (type === "imagePixelModule") return { rows, columns, samplesPerPixel: 1, photometricInterpretation: "MONOCHROME2", bitsAllocated: 16, bitsStored: about.bits, highBit: about.bits - 1, pixelRepresentation: 0 };
	if (type === "imagePlaneModule") return { rows, columns, imageOrientationPatient: [1, 0, 0, 0, 1, 0], rowCosines: [1, 0, 0], columnCosines: [0, 1, 0], imagePositionPatient: [0, 0, 0], pixelSpacing: [1, 1], rowPixelSpacing: 1, columnPixelSpacing: 1 };
	if (type === "voiLutModule") return { windowCenter: [center], windowWidth: [width], voiLUTFunction: "LINEAR" };
	if (type === "modalityLutModule") return { rescaleSlope: 1, rescaleIntercept: 0 };
	if (type === "generalSeriesModule") return { modality: "IO", seriesInstanceUID: "1.2.3" };
	return undefined;
}

setUseCPURendering(new URLSearchParams(location.search).get("cpu") === "1");
await init();
imageLoader.registerImageLoader("bench", (imageId) => ({ promise: load(imageId) }));
metaData.addProvider(meta, 10_000);
const element = document.getElementById("stage");
element.addEventListener(Enums.Events.IMAGE_RENDERED, () => requestAnimationFrame(() => (window.rendered ??= performance.now())));
eventTarget.addEventListener(Enums.Events.IMAGE_LOAD_ERROR, ({ detail }) => (window.failed = String(detail.error)));
const engine = new RenderingEngine("engine");
engine.enableElement({ viewportId: "film", type: Enums.ViewportType.STACK, element });
const viewport = engine.getViewport("film");
await viewport.setStack(["bench:film"]);
viewport.setProperties({ voiRange: { lower: about.center - about.width / 2, upper: about.center + about.width / 2 } });
viewport.render();

/** Median milliseconds of 30 window steps, each until its image was rendered. */
window.windowSteps = async () => {
	const times = [];
	for (let i = 0; i < 30; i += 1) {
		const { lower, upper } = viewport.getProperties().voiRange;
		const start = performance.now();
		const done = new Promise((resolve) => element.addEventListener(Enums.Events.IMAGE_RENDERED, resolve, { once: true }));
		viewport.setProperties({ voiRange: { lower: lower + (i % 2 ? 6 : -6), upper: upper + (i % 2 ? 9 : -9) } });
		viewport.render();
		await done;
		times.push(performance.now() - start);
		await new Promise(requestAnimationFrame);
	}
	return times.sort((a, b) => a - b)[15];
};
