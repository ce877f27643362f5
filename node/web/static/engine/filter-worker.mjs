/** Runs the unsharp mask beside the page, so that nothing stutters. */

import { unsharp } from "./filter.mjs";

onmessage = ({ data: { samples, width, height, offset, padding } }) => {
	const sharp = unsharp(samples, width, height, offset, padding);
	postMessage(sharp, [sharp.buffer]);
};
