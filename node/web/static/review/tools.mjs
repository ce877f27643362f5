/** The tools in hand, and where a point lies; what draws and reshapes is fetched with the first tool. */

import { batch } from "../vendor/preact.mjs";
import { inverse, map, matrix } from "../engine/view.mjs";
import { alarm, say } from "../shared/say.mjs";
import * as at from "./store.mjs";
import { look, stageSize } from "./looks.mjs";

const ADD_TOOLS = ["add-box", "add-polygon", "add-line"];
const TOOL_WORDS = {
	"add-box": "Add missed: drag a box, or arrows and Enter twice. N again for a polygon.",
	"add-polygon": "Add missed: click points, or arrows and Space; Enter closes. N again for a line.",
	"add-line": "Add missed: line from CEJ to crest. N again for a box.",
	calibrate: "Calibrate: draw along a known length, or arrows and Enter twice.",
	measure: "Measure: drag a line, or arrows and Enter twice.",
	edit: "Editing: arrows move, Tab picks a handle, Enter keeps, Esc goes back.",
};

/** The words of the tool in hand. */
export function toolWords() {
	return TOOL_WORDS[at.tool.value] ?? "";
}

/** Image pixel to stage and back. */
export function toStage(point) {
	return map(matrix(look.value.view, stageSize.value), point);
}
export function toImage(point) {
	return map(inverse(matrix(look.value.view, stageSize.value)), point);
}

/** Take a tool in hand. */
export function arm(tool) {
	const { width, height } = stageSize.value;
	if (!at.current.value?.rows) return;
	if (tool !== "window") drawn(() => {});
	batch(() => {
		at.tool.value = tool;
		at.menu.value = null;
		focusStage();
		at.draft.value = tool === "window" ? null : { id: null, geometry: null, points: [], cross: toImage([width / 2, height / 2]) };
	});
	if (tool !== "window") say(toolWords());
}

/** The next of the add tools: box, polygon, line. */
export function armAdd() {
	if (!at.canDecide.value) return say("This study cannot be changed now.");
	at.isOverlayOn.value = true;
	return arm(ADD_TOOLS[(ADD_TOOLS.indexOf(at.tool.value) + 1) % ADD_TOOLS.length]);
}

/** Start editing the selected finding. */
export function edit() {
	const finding = at.selected.value;
	if (!finding) return say("Choose a finding first.");
	if (!at.canDecide.value) return say("This study cannot be changed now.");
	if (finding.state === "rejected") return say("This finding is rejected. Accept it before you change it.");
	drawn(() => {});
	batch(() => {
		at.isOverlayOn.value = true;
		at.tool.value = "edit";
		focusStage();
		at.draft.value = { id: finding.id, geometry: finding.geometry, handle: null, points: [], cross: null };
	});
	return say(toolWords());
}

/** Put everything away without a change. */
export function stop() {
	batch(() => {
		at.tool.value = "window";
		at.draft.value = null;
		if (["add", "calibrate"].includes(at.menu.value?.kind)) at.menu.value = null;
	});
}

function focusStage() {
	document.getElementById("stage")?.focus({ preventScroll: true });
}

let drawing = null;
let fetching = null;

/** Whether what draws is here. */
export const canDraw = () => Boolean(drawing);

/** Draw: calls `use` with the module that does, at once when it is here; calls keep their order. */
export function drawn(use) {
	if (drawing) return use(drawing);
	fetching ??= import("./draw.mjs").then((module) => (drawing = module));
	return fetching.then(use, () => [(fetching = null), alarm("The tool could not be fetched. Is the node away?"), stop()]);
}
