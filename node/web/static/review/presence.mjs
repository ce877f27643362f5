/** A sign of life every 20 seconds while the page is in front; who else reads this study comes back. */

import { effect } from "../vendor/preact.mjs";
import { call } from "../shared/api.mjs";
import { lockState } from "../shared/session.mjs";
import * as at from "./store.mjs";

const EVERY_MS = 20_000;

/** Begin; the server hears of each image that is opened. */
export function attend() {
	const path = `/api/studies/${at.study.value.id}/presence`;
	const tell = async () => {
		if (document.hidden || lockState.value === "locked") return;
		const { others } = await call(path, { body: { image_id: at.currentId.value }, isBackground: true }).catch(() => at.others.value && { others: at.others.value });
		if (JSON.stringify(others) !== JSON.stringify(at.others.value)) at.others.value = others;
	};
	effect(() => (at.currentId.value, tell(), undefined));
	setInterval(tell, EVERY_MS);
	document.addEventListener("visibilitychange", tell);
	addEventListener("pagehide", () => call(path, { body: { is_leaving: true }, isBackground: true, isLast: true }).catch(() => {}));
}
