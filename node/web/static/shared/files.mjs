/** Files from the node. */

import { request } from "./api.mjs";

/** Send a question and get a file. */
export async function post(path, body) {
	return (await request(path, { body })).blob();
}

/** Fetch a file with what its headers say. */
export async function file(path) {
	const response = await request(path, { isBackground: true });
	return { blob: await response.blob(), headers: response.headers };
}
