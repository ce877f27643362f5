/** The rail: every image of the study with its open suggestions and whether it was seen. */

import { html } from "../vendor/preact.mjs";
import * as at from "./store.mjs";
import { showImage } from "./actions.mjs";

export function Mount() {
	const images = at.images.value;
	const seen = images.filter((image) => at.seen.value.has(image.id)).length;
	const open = at.openCount.value;
	const total = at.ordered.value.filter((f) => f.origin === "ai").length;
	return html`<nav class="rail" aria-label="Images">
		<div class="railhead"><button class="quiet" onClick=${() => (at.dialog.value = "Mount")} title="All images at their places (Home)">${at.study.value.mount.template || "Images"} <kbd>Home</kbd></button><span class="grow"></span>
			<span class="muted">seen ${seen}/${images.length}</span></div>
		<ol class=${`thumbs ${images.length > 4 ? "many" : ""}`}>
			${images.map((image) => html`<${Thumb} key=${image.id} image=${image} />`)}</ol>
		<${Flaws} image=${at.current.value} />
		${total > 0 && html`<p class="railfoot muted">decided ${total - open}/${total}
			${open > 0 && html` · next <kbd>Shift+J</kbd>`}</p>`}
	</nav>`;
}

/** What is wrong with the image shown, the worst first, and what a retake would change. */
function Flaws({ image }) {
	if (!image?.region && !image?.flaws.length) return null;
	return html`<section class="flaws" aria-label="Image quality">
		${image.region && html`<p class="muted">${image.region}</p>`}
		<ul>${image.flaws.map((flaw) => html`<li key=${flaw.words} class=${flaw.is_disqualifying ? "warning" : ""}>
			${flaw.teeth.map(at.toothWords).join(", ")} ${flaw.words}
			${flaw.hint && html` <span class="muted">If you retake it: ${flaw.hint}.</span>`}</li>`)}</ul></section>`;
}

function Thumb({ image }) {
	const open = at.openOn(image.id);
	const isSeen = at.seen.value.has(image.id);
	const isCurrent = image.id === at.currentId.value;
	const isBroken = image.state === "unreadable" || !image.grey;
	const isPoor = image.flaws.some((flaw) => flaw.is_disqualifying);
	const words = [
		at.imageWords(image), open ? `${open} to decide` : "nothing to decide", isSeen ? "seen" : "not seen yet",
		isBroken ? "cannot be read" : "", image.state === "failed" ? "AI failed" : "", isPoor ? "poor quality" : "",
	].filter(Boolean).join(", ");
	const click = () => {
		showImage(image.id);
		document.getElementById("stage").focus({ preventScroll: true });
	};
	return html`<li><button class="thumb" aria-label=${words} aria-current=${isCurrent ? "true" : undefined} onClick=${click}>
		<span class="pic">${isBroken
			? html`<span class="broken">cannot be read</span>`
			: html`<img src=${`/api/images/${image.id}/preview?w=160`} alt="" loading="lazy" draggable=${false} />`}
			${open > 0 && html`<b class="count">${open}</b>`}</span>
		<span class="cap"><span>${at.imageWords(image, true)}</span><span class="grow"></span>
			${at.others.value.some((other) => other.image_id === image.id) && html`<span class="warning" title="A colleague is at this image">●</span>`}
			${image.state === "received" && html`<span class="muted">analysing</span>`}
			${image.state === "failed" && html`<span class="danger">AI failed</span>`}
			${image.duplicates > 0 && html`<span class="warning" title="Other bytes came under the same identifier; both are kept.">2×</span>`}
			${isPoor && html`<span class="warning" aria-hidden="true">⚠</span>`}
			${isSeen && html`<span class="ok" aria-hidden="true">✓</span>`}</span>
	</button></li>`;
}
