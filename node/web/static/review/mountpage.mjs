/**
 * The mount: every image at its place of the series, to look over and to correct. A place comes from
 * the models until a person moves the image: by dragging, by its menu, or with M, arrows and Enter.
 */

import { html, useEffect, useState } from "../vendor/preact.mjs";
import { say } from "../shared/say.mjs";
import { may } from "../shared/session.mjs";
import * as at from "./store.mjs";
import { showImage } from "./actions.mjs";
import { hangOf, mountAs, place, swap } from "./films.mjs";
import { Modal } from "./modal.mjs";

const SERIES = { FMX: "Full mouth", BW: "Bitewings", VBW: "Vertical bitewings", PAN: "Panoramic" };
/** "FMX18" is "Full mouth, 18"; "PAN+BW4" is "Panoramic, bitewings, 4". */
const templateWords = (name) => name === "LOOSE" ? "Loose images" : name.split("+")
	.map((part, index) => { const words = SERIES[part.replace(/\d+$/, "")] ?? part; return index ? words.toLowerCase() : words; })
	.concat(name.match(/\d+$/) ?? []).join(", ");
const TYPE = "application/x-bitewing-image";

export function Mount() {
	const { mount, reading } = at.study.value;
	const series = reading?.facts?.series;
	const [moving, setMoving] = useState(null); // the image in hand
	const [target, setTarget] = useState(null); // the place under the arrows
	const slots = mount.rows.flat();
	const drop = (code) => {
		swap(moving, code);
		setMoving(null);
	};
	const onKey = (event) => {
		const held = event.target.closest("[data-image]")?.dataset.image;
		if (!moving && (event.key === "m" || event.key === "M") && held && may("images.mount")) {
			event.preventDefault();
			setMoving(held);
			setTarget(at.slotOf(held)?.code ?? slots[0]?.code);
			say("Moving. Arrows choose a place, Enter puts it there, Escape leaves it.");
		} else if (moving && event.key === "Escape") {
			event.preventDefault();
			event.stopPropagation();
			setMoving(null);
		} else if (moving && event.key === "Enter") {
			event.preventDefault();
			drop(target);
		} else if (event.key.startsWith("Arrow")) {
			event.preventDefault();
			const code = step(mount.rows, moving ? target : event.target.closest("[data-slot]")?.dataset.slot, event.key);
			if (!code) return;
			if (moving) setTarget(code);
			else document.querySelector(`[data-slot="${code}"] .film`)?.focus();
			if (moving) say(slots.find((slot) => slot.code === code).words);
		}
	};
	useEffect(() => document.querySelector(".mount .film")?.focus(), []);
	const all = at.images.value;
	const seen = all.filter((image) => at.seen.value.has(image.id)).length;
	const empty = slots.filter((slot) => !slot.image_id);
	return html`<${Modal} name="mountdialog" title=${`${mount.template || "Images"}: ${all.length} images`}>
		<div class="mount" onKeyDown=${onKey}>
			<p class="row muted"><span>seen ${seen}/${all.length}</span><span>${at.openCount.value ? `${at.openCount.value} to decide` : "all decided"}</span>
				${empty.length > 0 && html`<span class="warning">${empty.length} ${empty.length === 1 ? "place is" : "places are"} empty</span>`}
				<span class="grow"></span>
				${may("images.mount") && html`<label class="row">Mount as <select value=${mount.chosen} onChange=${(event) => mountAs(event.target.value, `Mounted as: ${event.target.selectedOptions[0].text}.`)}>
					<option value="">as the models say</option>
					${mount.templates.map((each) => html`<option key=${each} value=${each}>${templateWords(each)}</option>`)}
					<option value="LOOSE">${templateWords("LOOSE")}</option></select></label>`}
				<span><kbd>Enter</kbd> open ${may("images.mount") && html`<kbd>M</kbd> move`}</span></p>
			${mount.rows.length > 0 && html`<div class="sides" aria-hidden="true"><span>R</span><span>L</span></div>`}
			${mount.rows.map((row) => html`<div class="mountrow" key=${row[0].code} role="group">
				${row.map((slot) => html`<${Place} key=${slot.code} slot=${slot} moving=${moving} isTarget=${moving && target === slot.code} drop=${drop} setMoving=${setMoving} />`)}</div>`)}
			${(mount.loose.length > 0 || mount.rows.length > 0) && html`<section aria-label="On no place" class="loose" onDragOver=${(event) => event.preventDefault()}
					onDrop=${(event) => place(event.dataTransfer.getData(TYPE), { slot: "" })}>
				<h3>On no place <span class="muted">${mount.loose.length}</span></h3>
				<div class="mountrow">${mount.loose.map((id) => html`<div class="slot" key=${id}><${Film} image=${all.find((image) => image.id === id)} setMoving=${setMoving} slots=${slots} /></div>`)}</div></section>`}
			${series?.retakes.map((retake) => html`<p key=${retake.instance_id} class="warning">${name(retake.instance_id)} may be a retake of ${name(retake.kept_id)}: ${retake.reason}.</p>`)}
			${all.filter((image) => image.flaws.some((flaw) => flaw.is_disqualifying)).map((image) => html`<p key=${image.id} class="warning">Consider a retake of ${name(image.id)}:
				${image.flaws.filter((flaw) => flaw.is_disqualifying).map((flaw) => `${flaw.words}${flaw.hint && `; ${flaw.hint}`}`).join(". ")}.</p>`)}
			<p class="muted">A dotted frame: placed by the models, not yet seen. Places are for looking; findings keep their images.</p>
		</div></${Modal}>`;
}

const name = (id) => at.imageWords(at.images.value.find((image) => image.id === id) ?? {});

/** The place beside another, as the arrows go. */
function step(rows, code, key) {
	const y = Math.max(rows.findIndex((row) => row.some((slot) => slot.code === code)), 0);
	const x = Math.max(rows[y]?.findIndex((slot) => slot.code === code) ?? 0, 0);
	if (key === "ArrowLeft") return rows[y]?.[Math.max(x - 1, 0)]?.code;
	if (key === "ArrowRight") return rows[y]?.[Math.min(x + 1, rows[y].length - 1)]?.code;
	const next = rows[Math.min(Math.max(y + (key === "ArrowDown" ? 1 : -1), 0), rows.length - 1)];
	return next?.[Math.round(((x + 0.5) / rows[y].length) * next.length - 0.5)]?.code;
}

function Place({ slot, moving, isTarget, drop, setMoving }) {
	const image = at.images.value.find((each) => each.id === slot.image_id);
	const isGuess = image && !slot.placed_by && !at.seen.value.has(image.id);
	const onDrop = (event) => {
		event.preventDefault();
		const id = event.dataTransfer.getData(TYPE);
		if (id) swap(id, slot.code);
	};
	return html`<div class=${`slot ${isTarget ? "target" : ""} ${isGuess ? "guess" : ""} ${slot.code.split("-").at(-1)}`} data-slot=${slot.code}
			onDragOver=${(event) => event.preventDefault()} onDrop=${onDrop}>
		${image ? html`<${Film} image=${image} slot=${slot} setMoving=${setMoving} />`
			: html`<button class="film hollow" aria-label=${`${slot.words}: empty`} disabled=${!moving} onClick=${() => drop(slot.code)}>empty</button>`}
		<span class="cap">${slot.words.replace(/ (periapical|bitewing)$/, "")}</span></div>`;
}

function Film({ image, slot, setMoving, slots }) {
	const hang = hangOf(image.id);
	const open = at.openOn(image.id);
	const go = () => {
		at.dialog.value = null;
		showImage(image.id);
	};
	const words = [slot?.words, at.imageWords(image), open ? `${open} to decide` : "nothing to decide", at.seen.value.has(image.id) ? "seen" : "not seen",
		slot ? (slot.placed_by ? `placed by ${slot.placed_by}` : "placed by the models") : ""].filter(Boolean).join(", ");
	const choose = (event) => {
		const { value } = event.target;
		event.target.value = "";
		if (value === "turn") place(image.id, { quarter_turns: (hang.quarter_turns + 1) % 4 });
		else if (value === "mirror") place(image.id, { is_mirrored: !hang.is_mirrored });
		else if (value === "aside") place(image.id, { slot: "" });
		else swap(image.id, value);
	};
	return html`<button class="film" data-image=${image.id} aria-label=${words} draggable=${may("images.mount")} onClick=${go}
			onDragStart=${(event) => [event.dataTransfer.setData(TYPE, image.id), setMoving(null)]}>
			<img class=${`turn${hang.quarter_turns} ${hang.is_mirrored ? "flip" : ""}`} src=${`/api/images/${image.id}/preview?w=160`} alt="" loading="lazy" draggable=${false} />
			${open > 0 && html`<b class="count">${open}</b>`}${at.seen.value.has(image.id) && html`<b class="ok tick" aria-hidden="true">✓</b>`}
			${image.flaws.some((flaw) => flaw.is_disqualifying) && html`<b class="warning flag" aria-hidden="true">⚠</b>`}</button>
		${may("images.mount") && html`<select class="slotmenu" aria-label=${`Move or turn ${at.imageWords(image)}`} value="" onChange=${choose}>
			<option value="">⋯</option><option value="turn">Turn by 90°</option><option value="mirror">Mirror</option>
			${slot && html`<option value="aside">Put aside</option>`}
			${(slots ?? at.study.value.mount.rows.flat()).filter((each) => each.code !== slot?.code).map((each) => html`<option key=${each.code} value=${each.code}>To ${each.words}</option>`)}</select>`}`;
}
