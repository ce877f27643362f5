/**
 * Sharpening by unsharp mask: sample + amount × (sample − its Gaussian mean). A second buffer for
 * looking only: stored samples and measurements never change. Padding stays padding.
 */

export const RADIUS_PX = 1.6;
export const AMOUNT = 1.2;

/** Sharpen a frame's samples in a worker; resolves to a new Uint16Array. */
export function sharpen(frame, grey) {
	const worker = new Worker(new URL("./filter-worker.mjs", import.meta.url), { type: "module" });
	const { width, height } = frame;
	const samples = frame.samples.slice();
	return new Promise((resolve, reject) => {
		worker.onmessage = ({ data }) => [worker.terminate(), resolve(data)];
		worker.onerror = (problem) => [worker.terminate(), reject(problem)];
		worker.postMessage({ samples, width, height, offset: grey.sample_offset, padding: grey.padding }, [samples.buffer]);
	});
}

/** The unsharp mask itself; `padding` is an inclusive range of stored values, or null. */
export function unsharp(samples, width, height, offset, padding) {
	const mean = blur(samples, width, height, kernel(RADIUS_PX));
	const [first, last] = padding ?? [1, 0];
	let low = 65535;
	let high = 0;
	for (const sample of samples) [low, high] = [Math.min(low, sample), Math.max(high, sample)];
	return Uint16Array.from(samples, (sample, i) => {
		const stored = sample - offset;
		if (stored >= first && stored <= last) return sample;
		return Math.min(Math.max(Math.round(sample + AMOUNT * (sample - mean[i])), low), high);
	});
}

function kernel(radius) {
	const reach = Math.ceil(2.5 * radius);
	const weights = Float32Array.from({ length: 2 * reach + 1 }, (_, i) => Math.exp(-((i - reach) ** 2) / (2 * radius ** 2)));
	const sum = weights.reduce((a, b) => a + b);
	return weights.map((weight) => weight / sum);
}

/** Separable blur; at the edges the last sample is repeated. */
function blur(samples, width, height, weights) {
	const reach = (weights.length - 1) / 2;
	const rows = new Float32Array(samples.length);
	const out = new Float32Array(samples.length);
	for (let y = 0; y < height; y += 1) {
		for (let x = 0; x < width; x += 1) {
			let sum = 0;
			for (let k = -reach; k <= reach; k += 1) sum += weights[k + reach] * samples[y * width + Math.min(Math.max(x + k, 0), width - 1)];
			rows[y * width + x] = sum;
		}
	}
	for (let y = 0; y < height; y += 1) {
		for (let x = 0; x < width; x += 1) {
			let sum = 0;
			for (let k = -reach; k <= reach; k += 1) sum += weights[k + reach] * rows[Math.min(Math.max(y + k, 0), height - 1) * width + x];
			out[y * width + x] = sum;
		}
	}
	return out;
}
