// The page's address as its state: `/player?stream=demo&protocol=hls` can be shared and bookmarked.

import { type Protocol, protocolById } from "./protocols";

/** What the viewer watches. A null stream means "the first live one". */
export interface Choice {
  stream: string | null;
  protocol: Protocol;
}

/** The choice that the present address names. */
export function readChoice(): Choice {
  const query = new URLSearchParams(location.search);
  return { stream: query.get("stream") || null, protocol: protocolById(query.get("protocol")) };
}

/** Puts the choice into the address. A choice of the viewer is a step that "back" undoes, one of the page is not. */
export function writeChoice(choice: Choice, by: "viewer" | "page"): void {
  const query = new URLSearchParams();
  if (choice.stream !== null) query.set("stream", choice.stream);
  query.set("protocol", choice.protocol.id);
  const address = `${location.pathname}?${query}`;
  if (by === "viewer") history.pushState(null, "", address);
  else history.replaceState(null, "", address);
}
