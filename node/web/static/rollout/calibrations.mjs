/** Calibration by the practice's own decisions: proposals, their effect, approval, roll-back. */

import { html } from "../vendor/preact.mjs";

function measured(one) {
	return `${one.error.toFixed(3)} (${one.error_low.toFixed(3)}–${one.error_high.toFixed(3)})`;
}

function Version({ one, may, act }) {
	const decide = (event) => {
		event.preventDefault();
		const reason = new FormData(event.currentTarget).get("reason");
		const decision = event.submitter.value;
		act(decision === "approve" ? "Approved; it holds from the next image on." : "Refused.", `/calibrations/${one.version}`, { decision, reason });
	};
	const kinds = one.content.kinds;
	const isOpen = one.state === "proposed" || one.state === "ended";
	return html`<h3>Version ${one.version} <span class=${`pill ${one.state === "approved" ? "good" : ""}`}>${one.state}</span></h3>
		<p class="muted">Made by ${one.made_by}${one.decided_by && `; ${one.state} by ${one.decided_by}: ${one.reason}`}</p>
		${kinds.length > 0 && html`<div class="scrolls" tabindex="0" role="group" aria-label=${`Calibration ${one.version}`}><table class="queue"><thead><tr><th scope="col">Network</th><th scope="col">Kind</th><th scope="col">Decided</th><th scope="col">Kept</th><th scope="col">Error before</th><th scope="col">Error after</th><th scope="col">Suggested from</th><th scope="col">Strong from</th></tr></thead>
			<tbody>${kinds.map((kind) => html`<tr key=${kind.model + kind.kind}><td>${kind.model}</td><td>${kind.kind.replaceAll("_", " ")}</td><td>${kind.count}</td><td>${kind.kept}</td><td class="nowrap">${measured(kind.before)}</td><td class="nowrap">${measured(kind.after)}</td><td>${kind.review.toFixed(2)}</td><td>${kind.high_specificity.toFixed(2)}</td></tr>`)}</tbody></table></div>`}
		${one.content.left.length > 0 && html`<details><summary>Left as they are</summary><ul class="plain">${one.content.left.map((words) => html`<li key=${words}><small>${words}</small></li>`)}</ul></details>`}
		${may.lead && isOpen && kinds.length > 0 && html`<form onSubmit=${decide}><label class="field">Why <input name="reason" required minlength="3" maxlength="255" autocomplete="off" /></label>
			<div class="actions"><button class="primary" value="approve">${one.state === "ended" ? "Approve again" : "Approve"}</button>${one.state === "proposed" && html`<button value="refuse">Refuse</button>`}</div></form>`}
		${may.lead && one.state === "approved" && html`<div><button class="danger" onClick=${() => act("The networks' own probabilities hold again.", "/calibrations/end", { reason: "rolled back on the page" })}>Roll back</button></div>`}`;
}

export function Calibrations({ found, act }) {
	return html`<section aria-labelledby="h-calibration"><h2 id="h-calibration">Calibration by our own decisions</h2>
		<p class="muted">A proposal changes nothing until the clinical lead approves it. Each finding carries the version that moved its probability.</p>
		${found.may.lead && html`<div><button onClick=${() => act("Proposed.", "/calibrations")}>Propose from signed decisions</button></div>`}
		${found.calibrations.length === 0 && html`<p>Nothing was proposed.</p>`}
		${found.calibrations.map((one) => html`<${Version} key=${one.version} one=${one} may=${found.may} act=${act} />`)}</section>`;
}
