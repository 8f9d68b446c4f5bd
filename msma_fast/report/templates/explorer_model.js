// The neighbour explorer's data: rows [before, token, after, text, id?]; near[layer][token] = [row, distance, row, ...].
function explorerModel(raw) {
  const key = (row) => raw.rows[row].length > 4 ? raw.rows[row][4] : raw.rows[row][1];
  const neighbors = (layer, token) => {
    const flat = raw.near[layer][token], own = key(raw.tokens[token]), found = [];
    for (let i = 0; i < flat.length; i += 2) found.push({ row: flat[i], distance: flat[i + 1], same: key(flat[i]) === own });
    return found;
  };
  const share = (layer, token) => {
    const near = neighbors(layer, token);
    return near.length ? near.filter((one) => one.same).length / near.length : 0;
  };
  const layers = raw.near.length, tokens = raw.tokens.length;
  const shares = raw.tokens.map((_, token) => raw.near.map((_, layer) => share(layer, token)));
  const mean = raw.near.map((_, layer) => shares.reduce((sum, one) => sum + one[layer], 0) / tokens);
  const farthest = raw.tokens.map((_, token) =>
    Math.max(1e-12, ...raw.near.map((layer) => layer[token].length ? layer[token][layer[token].length - 1] : 0)));

  // What is shown of a token: invisible ones get a sign, spaces around it belong to its context.
  function parts(row) {
    const [before, token, after, text] = raw.rows[row];
    const flat = (string) => string.replace(/\s+/g, " ");
    const word = token.trim();
    const lead = word ? token.match(/^\s*/)[0] : "", trail = word ? token.match(/\s*$/)[0] : "";
    const sign = token.includes("\n") ? "\u21b5" : "\u2423";
    return { before: flat(before + lead), word: word || sign, after: flat(trail + after), text };
  }

  // The token to begin with: the one that travels farthest from its own kind, seen where about half have left.
  function beginning() {
    const travel = shares.map((one) => Math.max(...one) - Math.min(...one.slice(one.indexOf(Math.max(...one)))));
    const token = travel.indexOf(Math.max(...travel));
    const half = shares[token].map((value) => Math.abs(value - 0.5));
    return [token, half.indexOf(Math.min(...half))];
  }
  return { layers, tokens, rowOf: (token) => raw.tokens[token], neighbors, shares, mean, farthest, parts, beginning };
}
