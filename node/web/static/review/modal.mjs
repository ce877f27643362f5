/** A modal dialog of the review page; Escape and the close button end it. */

import { html } from "../vendor/preact.mjs";
import * as at from "./store.mjs";

function openNow(dialog) {
	if (dialog && !dialog.open) dialog.showModal();
}

export function Modal({ title, name = "", children, footer }) {
	const close = () => {
		at.dialog.value = null;
		document.getElementById("stage")?.focus({ preventScroll: true });
	};
	return html`<dialog class=${name} ref=${openNow} aria-labelledby="dialog-title" onCancel=${close} onClose=${close}>
		<header role="none"><h2 id="dialog-title">${title}</h2><span class="grow"></span>
			<button onClick=${(event) => event.target.closest("dialog").close()}>Back <kbd>Esc</kbd></button></header>
		<div class="body">${children}</div>${footer && html`<footer role="none">${footer}</footer>`}</dialog>`;
}
