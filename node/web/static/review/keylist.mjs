/** The list of keys, searchable. */

import { html, useState } from "../vendor/preact.mjs";
import { worded } from "./keywords.mjs";
import { Modal } from "./modal.mjs";

export function Keys({ keys }) {
	const [text, setText] = useState("");
	const fits = (key) => `${key.words} ${key.combos.join(" ")}`.toLowerCase().includes(text.toLowerCase());
	return html`<${Modal} title="Keys"><label class="field">Search the keys
		<input type="search" autofocus autocomplete="off" value=${text} onInput=${(event) => setText(event.target.value)} /></label>
		<div class="keys">${worded(keys).filter(fits).map((key) => html`<div key=${key.words}>
		<span class="nowrap">${key.combos.map((c) => html`<kbd key=${c}>${c}</kbd> `)}</span><span>${key.words}</span></div>`)}</div></${Modal}>`;
}
