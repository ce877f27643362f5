/** The loupe: 2.5 times what lies under the pointer, as long as L is held; at the selection without a pointer. */

import { effect } from "../vendor/preact.mjs";
import { paint } from "../engine/raster.mjs";
import { bounds, matrix, zoomAt } from "../engine/view.mjs";
import * as at from "./store.mjs";
import { toStage } from "./tools.mjs";
import { pointer } from "./gestures.mjs";
import { look, stageSize } from "./looks.mjs";
import { paintedPicture } from "./painter.mjs";

const MAGNIFIES = 2.5;
const RADIUS_PX = 130;
let glass = null;

/** Show the loupe and let it follow the pointer; returns what puts it away. */
export function hold() {
	if (glass) return;
	const stage = document.getElementById("stage");
	const canvas = document.createElement("canvas");
	const ratio = devicePixelRatio || 1;
	canvas.width = canvas.height = 2 * RADIUS_PX * ratio;
	canvas.className = "loupe";
	canvas.setAttribute("aria-hidden", "true");
	stage.append(canvas);
	const draw = (point) => {
		const picture = paintedPicture(at.currentId.value);
		if (!picture || !look.value) return;
		const m = matrix(zoomAt(look.value.view, stageSize.value, point, MAGNIFIES), stageSize.value);
		m[4] += RADIUS_PX - point[0];
		m[5] += RADIUS_PX - point[1];
		paint(canvas, picture, m, ratio, "medium");
		canvas.style.transform = `translate(${point[0] - RADIUS_PX}px, ${point[1] - RADIUS_PX}px)`;
	};
	const follow = (event) => {
		const rect = stage.getBoundingClientRect();
		draw([event.clientX - rect.left, event.clientY - rect.top]);
	};
	stage.addEventListener("pointermove", follow);
	const stop = effect(() => (look.value, draw(pointer ?? standing())));
	glass = () => {
		stop();
		stage.removeEventListener("pointermove", follow);
		canvas.remove();
	};
}

/** Put the loupe away. */
export function release() {
	glass?.();
	glass = null;
}

function standing() {
	const finding = at.selected.value;
	if (!finding || finding.image_id !== at.currentId.value) return [stageSize.value.width / 2, stageSize.value.height / 2];
	const [x0, y0, x1, y1] = bounds(finding.geometry.points);
	return toStage([(x0 + x1) / 2, (y0 + y1) / 2]);
}
