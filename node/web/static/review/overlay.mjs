/** Findings on the image, as SVG: class by colour and letter, state by line and mark, never by colour alone. */

import { html } from "../vendor/preact.mjs";
import { bounds, map, matrix } from "../engine/view.mjs";
import { lengthWords, scaleOf } from "../engine/measure.mjs";
import { kindOf } from "../shared/kinds.mjs";
import * as at from "./store.mjs";
import { look, stageSize } from "./looks.mjs";
import { handles, path, showsHandles, vertices } from "./shapes.mjs";

const STATE_MARK = { suggested: "", accepted: "", edited: "✎", rejected: "×" };
/** CSS pixels for one of the design: more where the page scales its type. */
const UNIT = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
const CHAR_PX = 8 * UNIT;
const LABEL_PX = 18 * UNIT;

export function Overlay() {
	const size = stageSize.value;
	const image = at.current.value;
	if (!look.value || !image) return null;
	const m = matrix(look.value.view, size);
	const isPlain = at.isBare.value || !at.isOverlayOn.value;
	const marks = isPlain ? [] : at.onImage.value.filter(at.isListed);
	const draft = at.draft.value;
	const shown = marks.map((f) => (draft?.id === f.id ? { ...f, geometry: draft.geometry } : f));
	const labels = placeLabels(shown, m, size);
	return html`<svg class="overlay" width=${size.width} height=${size.height} aria-hidden="true">
		${!isPlain && at.showsTeeth.value && image.teeth.map((tooth) => html`<${ToothBox} key=${tooth.tooth} tooth=${tooth} m=${m} />`)}
		${shown.map((finding) => html`<${Mark} key=${finding.id} finding=${finding} m=${m}
			isSelected=${finding.id === at.selectedId.value} label=${labels.get(finding.id)} />`)}
		${!isPlain && draft && html`<${Draft} draft=${draft} m=${m} image=${image} size=${size} />`}
	</svg>`;
}

function ToothBox({ tooth, m }) {
	const [a, b] = tooth.box;
	const d = path({ type: "box", points: [a, b] }, m, "tooth");
	const xs = [map(m, a), map(m, b)];
	return html`<g class="tooth"><path class="casing" d=${d} /><path class="stroke" d=${d} />
		<text x=${(xs[0][0] + xs[1][0]) / 2} y=${Math.min(xs[0][1], xs[1][1]) + 15}>${at.toothWords(tooth.tooth)}</text></g>`;
}

function Mark({ finding, m, isSelected, label }) {
	const d = path(finding.geometry, m, finding.kind);
	const classes = ["mark", finding.kind, finding.state, finding.origin, isSelected ? "selected" : ""].join(" ");
	const canEdit = isSelected && at.canDecide.value;
	return html`<g class=${classes}>
		<path class="casing" d=${d} /><path class="stroke" d=${d} />
		${finding.kind === "calculus" && html`<${Triangle} at=${map(m, vertices(finding.geometry)[0])} />`}
		${canEdit && showsHandles(finding, at.tool.value === "edit") && html`<${Handles} geometry=${finding.geometry} m=${m}
			picked=${at.draft.value?.id === finding.id ? at.draft.value.handle : null} />`}
		${isSelected && finding.original && at.tool.value === "edit"
			&& html`<path class="ghost" d=${path(finding.original.geometry, m, finding.kind)} />`}
		${label && html`<g class="label"><rect x=${label.x} y=${label.y} width=${label.width} height=${LABEL_PX} rx="3" />
			<text x=${label.x + 5 * UNIT} y=${label.y + 13 * UNIT}>${label.words}</text></g>`}
	</g>`;
}

function Triangle({ at: [x, y] }) {
	return html`<path class="solid" d=${`M${x - 6} ${y - 4}h12l-6 10z`} />`;
}

function Handles({ geometry, m, picked }) {
	return handles(geometry, look.value.view.zoom).map((handle) => {
		const [x, y] = map(m, handle.at);
		return html`<rect key=${handle.index} class=${`handle ${picked === handle.index ? "picked" : ""}`}
			x=${x - 5 * UNIT} y=${y - 5 * UNIT} width=${10 * UNIT} height=${10 * UNIT} rx="2" />`;
	});
}

/** The shape under way: points so far, the crosshair, a measured length. */
function Draft({ draft, m, image, size }) {
	if (draft.id) return null;
	const cross = draft.cross && map(m, draft.cross);
	const points = [...draft.points, ...(draft.points.length && draft.cross ? [draft.cross] : [])];
	const isBox = at.tool.value === "add-box" && points.length === 2;
	const shape = draft.geometry ?? (isBox ? { type: "box", points } : null);
	const d = shape ? path(shape, m, shape.type === "line" ? "bone_level" : "draft")
		: points.length > 1 ? `M${points.map((p) => map(m, p).join(" ")).join("L")}` : "";
	const isMeasure = ["measure", "calibrate"].includes(at.tool.value) && (draft.geometry || points.length === 2);
	const end = isMeasure && map(m, (draft.geometry?.points ?? points)[1]);
	return html`<g class="draft">
		${cross && html`<path class="cross" d=${`M0 ${cross[1]}H${size.width}M${cross[0]} 0V${size.height}`} />`}
		${d && html`<path class="casing" d=${d} /><path class="stroke" d=${d} />`}
		${draft.points.map((p, i) => { const [x, y] = map(m, p); return html`<circle key=${i} cx=${x} cy=${y} r="4" />`; })}
		${isMeasure && html`<text class="length" x=${end[0] + 10} y=${end[1] - 8}>${lengthWords(draft.geometry?.points ?? points, scaleOf(image), image.view === "panoramic")}</text>`}
	</g>`;
}

function boundsOf(finding, m) {
	return bounds(vertices(finding.geometry).map((point) => map(m, point)));
}

/** What a label says: letter, tooth, surfaces, score of an open suggestion, the state's mark. */
export function labelWords(finding) {
	const score = finding.state === "suggested" && finding.probability !== null ? `${Math.round(finding.probability * 100)}%` : "";
	const mark = finding.origin === "human" ? "+" : STATE_MARK[finding.state];
	const mm = finding.kind === "bone_level" && finding.value_mm !== null ? `${finding.value_mm.toFixed(1)} mm` : "";
	return [kindOf(finding.kind).letter + mark, at.toothWords(finding.tooth), finding.surfaces, finding.depth, mm, score].filter(Boolean).join(" ");
}

/** Place labels outside their shapes, clear of each other and of the stage's edge. */
export function placeLabels(marks, m, size) {
	const placed = new Map();
	const boxes = new Map(marks.map((f) => [f.id, boundsOf(f, m)]));
	const taken = [...boxes.values()].map(([x, y, x1, y1]) => ({ x, y, width: x1 - x, height: y1 - y }));
	const order = [...marks].sort((a, b) => (b.id === at.selectedId.value) - (a.id === at.selectedId.value));
	for (const finding of order) {
		const words = labelWords(finding);
		const width = Math.round(words.length * CHAR_PX + 10 * UNIT);
		const [x0, y0, x1, y1] = boxes.get(finding.id);
		if (x1 < 0 || y1 < 0 || x0 > size.width || y0 > size.height) continue;
		const gap = 8;
		const spots = [
			[x0, y0 - LABEL_PX - gap], [x0, y1 + gap], [x1 + gap, y0], [x0 - width - gap, y0],
			[x1 + gap, y1 - LABEL_PX], [x0 - width - gap, y1 - LABEL_PX],
			[x0, y0 - 2 * (LABEL_PX + 4) - gap], [x0, y1 + LABEL_PX + 4 + gap],
		];
		const isFree = ([x, y]) => x >= 2 && y >= 2 && x + width <= size.width - 2 && y + LABEL_PX <= size.height - 2
			&& !taken.some((t) => x < t.x + t.width + 3 && t.x < x + width + 3 && y < t.y + t.height + 3 && t.y < y + LABEL_PX + 3);
		const [x, y] = spots.find(isFree) ?? [Math.min(Math.max(x0, 2), size.width - width - 2), Math.max(y0 - LABEL_PX - gap, 2)];
		const label = { x, y, width, words, height: LABEL_PX };
		taken.push(label);
		placed.set(finding.id, label);
	}
	return placed;
}
