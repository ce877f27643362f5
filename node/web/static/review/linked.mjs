/** Two whole films side by side, zoomed and moved together; the earlier one laid over by its registration. */

import { html, useEffect, useRef, useState } from "../vendor/preact.mjs";
import { file } from "../shared/files.mjs";
import { fit, matrix, pan, zoomAt } from "../engine/view.mjs";
import * as at from "./store.mjs";
import { sizeOf } from "./looks.mjs";

const HEIGHT = 460;

/** `registration.transform` maps pixels of the earlier film to pixels of the current one. */
export function LinkedFilms({ registration, words }) {
	const image = at.images.value.find((each) => each.id === registration.instance_id);
	const size = sizeOf(image);
	const [stage, setStage] = useState(null);
	const [view, setView] = useState(null);
	const [isLinked, setLinked] = useState(true);
	const [own, setOwn] = useState(null); // the earlier film's view while the two are not linked
	const frame = useRef(null);
	useEffect(() => {
		const width = Math.max((frame.current.clientWidth - 12) / 2, 100);
		setStage({ width, height: HEIGHT });
		setView(fit(size, { width, height: HEIGHT }));
	}, []);
	const change = (next, isPrior) => (isLinked || !isPrior ? setView(next) : setOwn(next));
	const link = () => [setOwn(view), setLinked(!isLinked)];
	const priorView = isLinked ? view : own;
	const films = stage && [[registration.prior_instance_id, priorView, true, words[0]], [registration.instance_id, view, false, words[1]]];
	return html`<div ref=${frame}><div class="row"><label><input type="checkbox" checked=${isLinked} onChange=${link} /> Linked zoom and move</label>
			<button onClick=${() => [setView(fit(size, stage)), setOwn(null), setLinked(true)]}>Fit</button><span class="muted">Wheel or + and − zoom, drag or arrows move.</span></div>
		<div class="films two">${films?.map(([id, shown, isPrior, caption]) => html`<figure key=${id}><${Film} id=${id} view=${shown} stage=${stage} size=${size}
			transform=${isPrior ? registration.transform : null} words=${caption} onView=${(next) => change(next, isPrior)} /><figcaption>${caption}</figcaption></figure>`)}</div></div>`;
}

function Film({ id, view, stage, size, transform, words, onView }) {
	const canvas = useRef(null);
	const [bitmap, setBitmap] = useState(null);
	const [failure, setFailure] = useState("");
	useEffect(() => {
		preview(id).then(setBitmap, (problem) => setFailure(problem.words ?? "This film cannot be shown."));
	}, [id]);
	useEffect(() => draw(canvas.current, bitmap, view, stage, size, transform), [bitmap, view, stage]);
	const drag = useRef(null);
	const keys = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };
	const onKey = (event) => {
		const centre = [stage.width / 2, stage.height / 2];
		if (keys[event.key]) onView(pan(view, stage, size, ...keys[event.key]));
		else if (event.key === "+" || event.key === "=") onView(zoomAt(view, stage, centre, 1.25));
		else if (event.key === "-") onView(zoomAt(view, stage, centre, 0.8));
		else return;
		event.preventDefault();
	};
	if (failure) return html`<p class="notice bad">${failure}</p>`;
	return html`<canvas ref=${canvas} width=${Math.round(stage.width)} height=${stage.height} tabindex="0" role="img" aria-label=${`Film of ${words}`} onKeyDown=${onKey}
		onWheel=${(event) => [event.preventDefault(), onView(zoomAt(view, stage, [event.offsetX, event.offsetY], Math.exp(-event.deltaY * 0.0015)))]}
		onPointerDown=${(event) => [event.target.setPointerCapture(event.pointerId), (drag.current = [event.offsetX, event.offsetY])]}
		onPointerMove=${(event) => {
			if (!drag.current) return;
			onView(pan(view, stage, size, event.offsetX - drag.current[0], event.offsetY - drag.current[1]));
			drag.current = [event.offsetX, event.offsetY];
		}}
		onPointerUp=${() => (drag.current = null)} onPointerCancel=${() => (drag.current = null)}></canvas>`;
}

/** A film's preview, and how many columns the film itself has. */
async function preview(id) {
	const { blob, headers } = await file(`/api/images/${id}/preview?w=900`);
	return { picture: await createImageBitmap(blob), columns: Number(headers.get("X-Image-Columns")) };
}

function draw(canvas, bitmap, view, stage, size, transform) {
	if (!canvas || !bitmap || !view) return;
	const context = canvas.getContext("2d", { alpha: false });
	context.setTransform(1, 0, 0, 1, 0, 0);
	context.fillRect(0, 0, canvas.width, canvas.height);
	context.setTransform(...matrix(view, stage));
	// rows of the transform: x' = a x + b y + c, y' = d x + e y + f
	if (transform) context.transform(transform[0], transform[3], transform[1], transform[4], transform[2], transform[5]);
	// the preview is a scaled copy; the film has `columns` of its own
	const { picture: drawn, columns } = bitmap;
	context.drawImage(drawn, 0, 0, columns, (columns * drawn.height) / drawn.width);
}
