// One session of xmpp.js. The first line of standard input says how to log in; every later one is
// an order. Whatever happens goes out as a line of JSON. `modern.py` is the other end.

import { createInterface } from "node:readline";

import { client, xml } from "@xmpp/client";
import parse from "@xmpp/xml/lib/parse.js";

const CARBONS = "urn:xmpp:carbons:2";

function tell(what) {
  process.stdout.write(JSON.stringify(what) + "\n");
}

function start({ service, domain, username, password, resource, token, agent }) {
  const xmpp = client({
    service,
    domain,
    username,
    password,
    resource,
    // Of each step, milliseconds; the driver is who loses patience.
    timeout: 30_000,
    userAgent: xml("user-agent", { id: agent }, xml("software", {}, "testbed")),
  });
  // The library enables stream management by itself; carbons are its user's business.
  xmpp.bind2.use(CARBONS, () => xml("enable", { xmlns: CARBONS }));
  // The token is kept from one run to the next, as an application keeps it on disk.
  xmpp.fast.fetchToken = async () => token;
  xmpp.fast.saveToken = async (fresh) => {
    token = fresh;
    tell({ token });
  };
  xmpp.fast.deleteToken = async () => {
    token = null;
    tell({ token });
  };
  // How it logged in, as it stands on the wire.
  xmpp.on("send", (element) => {
    if (element.is("authenticate", "urn:xmpp:sasl:2")) tell({ mechanism: element.attrs.mechanism });
    if (element.is("auth")) tell({ mechanism: `${element.attrs.mechanism} of old` });
  });
  xmpp.on("online", (address) => tell({ online: address.toString() }));
  xmpp.streamManagement.on("resumed", () => tell({ resumed: xmpp.jid.toString() }));
  xmpp.on("stanza", (stanza) => tell({ stanza: stanza.toString() }));
  xmpp.on("error", (error) => tell({ error: error.condition ?? error.message }));
  xmpp.on("disconnect", () => tell({ gone: true }));
  // `start` fails for the same reason as an `error` event tells.
  xmpp.start().catch((error) => tell({ error: error.condition ?? error.message }));
  return xmpp;
}

let xmpp;
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  if (order.start) xmpp = start(order.start);
  if (order.send) {
    for (const stanza of parse(`<all>${order.send}</all>`).getChildElements()) {
      await xmpp.send(stanza);
    }
  }
  if (order.break) xmpp.socket.socket.destroy();
  if (order.stop) {
    xmpp.reconnect.stop();
    await xmpp.stop().catch(() => {});
    process.exit(0);
  }
}
process.exit(0);
