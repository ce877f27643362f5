/** Parts of the page that are fetched when they are first shown. */

import { html } from "../vendor/preact.mjs";
import { late } from "./store.mjs";

const asked = new Set();

/** Draw a part by its name; `load` fetches its module, once. */
export function Late({ name, load, ...given }) {
	const part = late.value[name];
	if (part) return html`<${part} ...${given} />`;
	if (load && !asked.has(name)) {
		asked.add(name);
		load().then((module) => (late.value = { ...late.value, ...module }), () => asked.delete(name));
	}
	return null;
}
