// Compiles the contract with the compiler in the folder given, and fixed settings; prints creation code in hexadecimal.
const fs = require("fs");
const path = require("path");
const solc = require(path.resolve(process.argv[2], "node_modules/solc"));

const input = {
  language: "Solidity",
  sources: { "SteleAnchor.sol": { content: fs.readFileSync(path.join(__dirname, "SteleAnchor.sol"), "utf8") } },
  settings: {
    optimizer: { enabled: true, runs: 10000 },
    evmVersion: "london",
    metadata: { bytecodeHash: "none", appendCBOR: false },
    outputSelection: { "*": { "*": ["evm.bytecode.object"] } },
  },
};
const output = JSON.parse(solc.compile(JSON.stringify(input)));
if (output.errors) {
  console.error(output.errors.map((error) => error.formattedMessage).join("\n"));
  process.exit(1);
}
console.log(output.contracts["SteleAnchor.sol"].SteleAnchor.evm.bytecode.object);
