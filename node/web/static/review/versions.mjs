/** Two signed versions beside each other: what each said of a finding, and what the later one changed. */

import { html, useEffect, useState } from "../vendor/preact.mjs";
import { call } from "../shared/api.mjs";
import { roleWords, timeWords } from "../shared/chrome.mjs";
import { DISPOSITIONS, kindOf } from "../shared/kinds.mjs";
import * as at from "./store.mjs";
import { Modal } from "./modal.mjs";

const FIELDS = [
	["kind", "class", (f) => kindOf(f.kind).words], ["tooth", "tooth", (f) => at.toothWords(f.tooth) || "no tooth"],
	["surfaces", "surfaces", (f) => f.surfaces || "no surface"], ["depth", "depth", (f) => f.depth ?? "no depth"],
	["state", "decision", (f) => f.state], ["disposition", "plan", (f) => planWords(f) || "no plan"],
	["value_mm", "length", (f) => (f.value_mm === null ? "no length" : `${f.value_mm.toFixed(1)} mm`)],
	["comment", "comment", (f) => f.comment || "no comment"],
	["geometry", "shape", () => "moved", (f) => JSON.stringify(f.geometry)],
];

const planWords = (finding) => DISPOSITIONS.find(([value]) => value === finding.disposition)?.[1] ?? "";

/** What changed from one version's finding to the other's, in words; empty when nothing did. */
export function differences(before, now) {
	if (!before) return ["added"];
	if (!now) return ["left out"];
	return FIELDS.filter(([name, , , key]) => (key ? key(before) !== key(now) : before[name] !== now[name]))
		.map(([, name, words, key]) => (key ? `${name} ${words(now)}` : `${name}: ${words(before)} → ${words(now)}`));
}

export function Versions() {
	const [all, setAll] = useState(null);
	const [problem, setProblem] = useState("");
	const [pair, setPair] = useState([0, 0]);
	useEffect(() => {
		call(`/api/studies/${at.study.value.id}/versions`).then(({ versions }) => {
			setAll(versions);
			setPair([Math.max(versions.length - 2, 0), versions.length - 1]);
		}, (refused) => setProblem(refused.words));
	}, []);
	return html`<${Modal} name="versionsdialog" title="Signed versions">${problem ? html`<p class="notice bad" role="alert">${problem}</p>`
		: all && html`<${Beside} all=${all} pair=${pair} setPair=${setPair} />`}</${Modal}>`;
}

function Beside({ all, pair, setPair }) {
	const [before, now] = pair.map((index) => all[index]);
	const rows = [...new Set([...before.findings, ...now.findings].map((f) => f.id))].map((id) => {
		const [was, is] = [before, now].map((version) => version.findings.find((f) => f.id === id));
		return { id, was, is, changed: differences(was, is) };
	});
	const count = rows.filter((row) => row.changed.length).length;
	const head = (place) => html`<th scope="col"><select aria-label=${place ? "Later version" : "Earlier version"} value=${String(pair[place])}
			onChange=${(event) => setPair(place ? [pair[0], Number(event.target.value)] : [Number(event.target.value), pair[1]])}>
			${all.map((version, index) => html`<option key=${version.version} value=${String(index)}>Version ${version.version}</option>`)}</select><${Signed} version=${all[pair[place]]} /></th>`;
	return html`<p role="status"><strong>${count ? `${count} of ${rows.length} ${rows.length === 1 ? "finding" : "findings"} ${count === 1 ? "differs" : "differ"}.` : "No finding differs."}</strong></p>
		<table class="versions"><thead><tr>${head(0)}${head(1)}<th scope="col">Difference</th></tr></thead>
		<tbody>${rows.map((row) => html`<tr key=${row.id} class=${row.changed.length ? "differs" : ""}>
			<td>${row.was ? html`<${Said} finding=${row.was} />` : "–"}</td><td>${row.is ? html`<${Said} finding=${row.is} />` : "–"}</td>
			<td>${row.changed.length ? html`<ul class="plain">${row.changed.map((words) => html`<li key=${words}>${words}</li>`)}</ul>` : html`<span class="muted">the same</span>`}</td></tr>`)}</tbody></table>`;
}

function Signed({ version }) {
	return html`<small class="muted">${[version.signer_name, roleWords(version.signer_role), timeWords(version.signed_at, at.study.value.settings.time_zone)].join(", ")}${version.reason && html`<br />Reason: ${version.reason}`}</small>`;
}

function Said({ finding }) {
	const image = at.images.value.find((each) => each.id === finding.image_id);
	const words = [at.findingWords(finding), finding.state, planWords(finding)].filter(Boolean).join(", ");
	return html`${words} <small class="muted">${image ? at.imageWords(image, true) : ""}</small>`;
}
