import { checkOutboundUrl } from "../formats/outbound-url.ts";
import { deny, type Finding, type Place, quote, quoteUrl, type ValidationContext, warn } from "./finding.ts";

/** Which hosts pass. */
export type UrlContext = Pick<ValidationContext, "allowLoopback" | "isAllowedHost">;

/** A URL that is asked by the controller: what can be said without resolving its host. */
export function* urlFindings(
  rule: Finding["rule"],
  place: Place,
  text: string,
  context: UrlContext,
): Generator<Finding> {
  const checked = checkOutboundUrl(text, context);
  if (checked.kind === "refused") yield deny(rule, place, `is ${quoteUrl(text)}, ${checked.problem}`);
  else if (context.isAllowedHost?.(checked.host) === false)
    yield warn(rule, place, `has the host ${quote(checked.host)}, which --allowed-action-hosts does not allow`);
}
