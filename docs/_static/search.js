"use strict";

// The search of Sphinx drops numbers from a query; docs/_ext/site_search.py says more.
const parseWords = Search._parseQuery;
Search._parseQuery = (query) => {
  const parsed = parseWords(query);
  const [, searched, , highlighted] = parsed;
  for (const number of query.match(/(?<!\w)\d+(?!\w)/g) || []) {
    searched.add(number);
    highlighted.add(number);
  }
  return parsed;
};

// Who uses the app comes before who works on it.
Scorer.score = ([page, , , , score]) =>
  /^docs\/decisions\/|^proof\/|^[A-Z]+$/.test(page) ? score / 4 : score;
