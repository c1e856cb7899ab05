// Holds an AsyncAPI document against the specification, by AsyncAPI's own parser: its JSON Schema, its references and its rules. A document
// that is broken on purpose must be refused, or the parser looked at nothing. Usage: asyncapi.js DOCUMENT
const fs = require("fs");
const { Parser } = require("@asyncapi/parser");

/** What the parser says of the document that makes it invalid. */
async function errors(document) {
  const { diagnostics } = await new Parser().parse(JSON.stringify(document));
  return diagnostics
    .filter((diagnostic) => diagnostic.severity === 0)
    .map((diagnostic) => `${diagnostic.path.join("/")}: ${diagnostic.message}`);
}

async function main() {
  const read = () => JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
  const found = await errors(read());
  if (found.length > 0) {
    throw new Error(`the document is not valid:\n${found.join("\n")}`);
  }
  const breaks = {
    "no version of the service": (document) => delete document.info.version,
    "an action that is none": (document) => (Object.values(document.operations)[0].action = "publish"),
    "a channel that is not there": (document) => (Object.values(document.operations)[0].channel.$ref = "#/channels/none"),
  };
  for (const [what, breakIt] of Object.entries(breaks)) {
    const document = read();
    breakIt(document);
    if ((await errors(document)).length === 0) {
      throw new Error(`a document with ${what} passed`);
    }
  }
  const count = (part) => Object.keys(part).length;
  const { channels, operations, components } = read();
  console.log(`valid: ${count(channels)} channels, ${count(operations)} operations, ${count(components.messages)} messages`);
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
