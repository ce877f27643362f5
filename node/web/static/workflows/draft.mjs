/** A draft as people read it, and as they change it: any JSON, whatever the workflow. */

import { html } from "../vendor/preact.mjs";

const LONG = 60;

/** chart_note as "Chart note". */
export function words(name) {
	const plain = name.replaceAll("_", " ").trim();
	return plain.charAt(0).toUpperCase() + plain.slice(1);
}

/** A draft; with `change(path, value)` its texts, numbers and choices can be edited, and gaps filled. */
export function Draft({ value, change, path = [] }) {
	if (Array.isArray(value) && value.every((each) => typeof each !== "object")) {
		return change
			? html`<${Field} value=${value.join("\n")} label=${path.at(-1) ?? "text"} isLong
					onChange=${(text) => change(path, text.split("\n").filter(Boolean))} />`
			: html`<span>${value.join(", ") || "none"}</span>`;
	}
	if (value !== null && typeof value === "object") {
		const entries = Object.entries(value).filter(([name]) => !name.startsWith("_"));
		return html`<dl class="draft">${entries.map(([name, each]) => html`
			<dt key=${name}>${Array.isArray(value) ? Number(name) + 1 : words(name)}</dt>
			<dd><${Draft} value=${each} change=${change} path=${[...path, name]} /></dd>`)}</dl>`;
	}
	if (path.at(-1) === "page" && String(value).startsWith("/api/")) {
		return html`<a href=${value} target="_blank" rel="noopener">Open the page beside this</a>`;
	}
	if (!change) return html`<span>${shown(value)}</span>`;
	if (value === null) {
		return html`<${Field} value="" label=${path.at(-1)} onChange=${(text) => change(path, text)} />`;
	}
	if (typeof value === "boolean") {
		return html`<input type="checkbox" checked=${value} aria-label=${words(path.at(-1))}
			onChange=${(event) => change(path, event.target.checked)} />`;
	}
	const read = typeof value === "number" ? Number : String;
	return html`<${Field} value=${value} label=${path.at(-1)} isLong=${String(value).length > LONG}
		onChange=${(text) => change(path, read(text))} />`;
}

function Field({ value, label, isLong, onChange }) {
	const name = words(String(label));
	const input = (event) => onChange(event.target.value);
	return isLong
		? html`<textarea aria-label=${name} value=${value} onInput=${input}></textarea>`
		: html`<input aria-label=${name} value=${value} onInput=${input} />`;
}

function shown(value) {
	if (value === null || value === "") return "–";
	if (typeof value === "boolean") return value ? "yes" : "no";
	return String(value);
}

/** A copy of `draft` with one value changed. */
export function changed(draft, path, value) {
	if (!path.length) return value;
	const [name, ...rest] = path;
	const copy = Array.isArray(draft) ? [...draft] : { ...draft };
	copy[name] = changed(copy[name], rest, value);
	return copy;
}
