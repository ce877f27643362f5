/** A button that asks the node to do something again. */

import { html, useState } from "../vendor/preact.mjs";
import { call } from "./api.mjs";

/** Analyse one image again, or what `path` says. */
export function Retry({ id, path = `/api/images/${id}/retry`, onChanged }) {
	const [words, setWords] = useState("");
	const retry = async () => {
		try {
			const answer = await call(path, { method: "POST" });
			setWords(answer ? `Started, attempt ${answer.attempt}.` : "Started again.");
			onChanged?.();
		} catch (problem) {
			setWords(problem.words);
		}
	};
	return html`<button onClick=${retry}>Retry</button> <span role="status" class="muted">${words}</span>`;
}
