/** The panel: tooth chart, sensitivity, and the findings as a list of cards. */

import { html, useEffect, useRef } from "../vendor/preact.mjs";
import { DISPOSITIONS, SCORE_HELP, hasDepth, kindOf, scoreWords } from "../shared/kinds.mjs";
import { LOWER, UPPER } from "../shared/teeth.mjs";
import { timeWords } from "../shared/chrome.mjs";
import { roving } from "../shared/keys.mjs";
import { planeWords } from "../engine/measure.mjs";
import * as at from "./store.mjs";
import * as act from "./actions.mjs";
import { change } from "./changes.mjs";
import { edit } from "./tools.mjs";
import { Late } from "./late.mjs";
import { Letter } from "./menus.mjs";

export function Panel() {
	const list = (at.listScope.value === "image" ? at.onImage.value : at.ordered.value)
		.filter((f) => at.isListed(f) || f.id === at.selectedId.value);
	const rejected = at.onImage.value.filter((f) => f.state === "rejected").length;
	return html`<aside class="side" aria-label="Findings">
		<${Chart} />
		<div class="listhead">
			<h2>Findings</h2>
			<select aria-label="Which findings" value=${at.listScope.value} onChange=${(e) => (at.listScope.value = e.target.value)}>
				<option value="image">image</option><option value="study">study</option></select>
			<span class="grow"></span>
			<div class="stops" role="radiogroup" aria-label="Sensitivity" onKeyDown=${roving}>
				${at.STOPS.map((stop) => html`<button key=${stop} role="radio" aria-checked=${String(at.stop.value === stop)}
					tabindex=${at.stop.value === stop ? 0 : -1} onClick=${() => (at.stop.value = stop)}>${stop}</button>`)}</div>
		</div>
		${at.belowCount.value > 0 && html`<p class="below warning">${at.belowCount.value} below the line, still undecided
			<button class="quiet" onClick=${() => (at.stop.value = "wide")}>show</button></p>`}
		<ul class="cards" id="findings">
			${list.map((finding) => html`<${Card} key=${finding.id} finding=${finding} />`)}
		</ul>
		${!list.length && html`<${Late} name="Nothing" />`}
		${rejected > 0 && html`<label class="row rejectedline"><input type="checkbox" checked=${at.showsRejected.value}
			onChange=${(e) => (at.showsRejected.value = e.target.checked)} /> show ${rejected} rejected</label>`}
		<${Late} name="About" />
	</aside>`;
}

function Chart() {
	const marks = new Map();
	for (const f of at.ordered.value) {
		if (!f.tooth || f.state === "rejected" || !at.isShown(f)) continue;
		marks.set(f.tooth, [...(marks.get(f.tooth) ?? []), f]);
	}
	const words = [...marks].map(([tooth, fs]) => `${at.toothWords(tooth)} ${fs.map((f) => kindOf(f.kind).words).join(", ")}`).join("; ");
	const cell = (code) => {
		const found = marks.get(code) ?? [];
		const isSelected = at.selected.value?.tooth === code;
		return html`<span key=${code} class=${`tooth-cell ${found.length ? "has" : ""} ${isSelected ? "selected" : ""}`}
			onClick=${() => found[0] && act.choose(found.find((f) => f.id !== at.selectedId.value) ?? found[0])}>
			<span>${at.toothWords(code).replace(/[^0-9]/g, "")}</span>
			<span class="dots">${found.slice(0, 3).map((f) => html`<i key=${f.id} class=${`letter ${f.kind} ${at.isOpen(f) ? "open" : ""}`}></i>`)}</span></span>`;
	};
	return html`<div class="chart" role="img" aria-label=${`Tooth chart. ${words || "No findings on any tooth."}`}>
		<div class="arch">${UPPER.map(cell)}</div><div class="arch lower">${LOWER.map(cell)}</div></div>`;
}

function Card({ finding }) {
	const isSelected = finding.id === at.selectedId.value;
	const conflict = at.conflicts.value.get(finding.id);
	const item = useRef(null);
	useEffect(() => {
		if (isSelected) item.current?.scrollIntoView({ block: "nearest" });
	}, [isSelected]);
	const image = at.images.value.find((candidate) => candidate.id === finding.image_id);
	return html`<li ref=${item} class=${`card ${finding.state} ${isSelected ? "selected" : ""} ${at.isOpen(finding) ? "open" : ""}`}>
		<button class="cardhead" aria-expanded=${String(isSelected)} onClick=${() => act.choose(finding)}>
			<${Letter} kind=${finding.kind} />
			<span class="ellipsis"><strong>${kindOf(finding.kind).words}</strong></span>
			<span class="where">${[at.toothWords(finding.tooth), finding.surfaces].filter(Boolean).join(" ") || "no tooth"}</span>
			<span class="grow"></span>
			<span class="what">${valueWords(finding)}</span>
		</button>
		<div class="cardline"><span class=${`state ${finding.state}`}>${act.stateWords(finding)}</span>
			${finding.probability !== null && html`<span class="muted" title=${SCORE_HELP}>${scoreWords(finding.probability)}</span>`}
			${at.listScope.value === "study" && html`<span class="muted">${at.imageWords(image, true)}</span>`}</div>
		${conflict && html`<${Late} name="Conflict" load=${() => import("./conflict.mjs")} id=${finding.id} conflict=${conflict} />`}
		${isSelected && html`<${Details} finding=${finding} image=${image} />`}
	</li>`;
}

function valueWords(finding) {
	if (finding.depth) return finding.depth;
	if (finding.value_mm !== null) return `${finding.value_mm.toFixed(1)} mm`;
	return finding.value_percent !== null ? `${Math.round(finding.value_percent)} %` : "";
}

function Details({ finding, image }) {
	const isOpen = at.isOpen(finding);
	const isOwn = finding.origin === "human";
	const zone = at.study.value.settings.time_zone;
	return html`<div class="details">
		${at.canDecide.value && html`<div class="row decide">
			${!isOwn && html`<button class=${isOpen ? "primary" : ""} disabled=${!isOpen && finding.state !== "rejected"} onClick=${act.accept}>Accept <kbd>A</kbd></button>
				<button disabled=${finding.state === "rejected"} onClick=${act.reject}>Reject <kbd>X</kbd></button>`}
			<button onClick=${edit}>Edit <kbd>E</kbd></button>
			${isOwn && html`<button class="danger" onClick=${act.remove}>Remove <kbd>Del</kbd></button>`}
		</div>
		<div class="row small">
			<button class="quiet" onClick=${() => act.openMenu("class")}>Class <kbd>C</kbd></button>
			<button class="quiet" onClick=${() => act.openMenu("tooth")}>Tooth <kbd>D</kbd></button>
			${hasDepth(finding.kind) && html`<button class="quiet" onClick=${() => act.openMenu("depth")}>Depth <kbd>V</kbd></button>`}
			<button class="quiet" onClick=${() => act.openMenu("comment")}>Note <kbd>/</kbd></button></div>`}
		<${Late} name="Linked" finding=${finding} />
		${act.takesPlan(finding) && html`<${Plan} finding=${finding} />`}
		${finding.value_mm !== null && html`<p class="muted">${finding.value_mm.toFixed(1)} mm${planeWords(image.spacing, image.view === "panoramic")}
			${finding.value_percent !== null && `, ${Math.round(finding.value_percent)} % of the root`}</p>`}
		${finding.reason && html`<p class="muted">Reason: ${finding.reason.replaceAll("_", " ")}</p>`}
		${finding.comment && html`<p class="comment">${finding.comment}</p>`}
		<p class="muted by">${[
			finding.model ? `${finding.model.name} ${finding.model.version}` : isOwn ? "Drawn by hand" : "",
			finding.decided_at ? `${finding.decided_by ?? ""} ${timeWords(finding.decided_at, zone)}` : "",
			finding.original ? "the AI's original is kept" : "",
		].filter(Boolean).join(" · ")}</p>
	</div>`;
}

function Plan({ finding }) {
	return html`<div class="plan" role="radiogroup" aria-label="Plan" onKeyDown=${roving}>
		<span class="muted">Plan <kbd>G</kbd></span>
		${DISPOSITIONS.map(([value, words], index) => html`<button key=${value} role="radio" disabled=${!at.canDecide.value}
			aria-checked=${String(finding.disposition === value)} tabindex=${finding.disposition === value || (!finding.disposition && index === 0) ? 0 : -1}
			onClick=${() => change("set_disposition", finding, { disposition: finding.disposition === value ? null : value }, `Plan: ${words}.`)}>${words}</button>`)}</div>`;
}
