"""The rewards that a task can be given by name.

Each is in [-1, 1], 1 for what is right and nothing else. Where only the two ends are given (±1), a
model that is never right has nothing to learn from: degrees help then.

| name | of a reply | degrees | right to use |
|---|---|---|---|
| `exact` | it is the answer, up to white space | ±1 | the form counts as much as the answer |
| `contains` | the answer stands in it | ±1 | short answers; earned by saying everything |
| `number` | its last number is the answer's | ±1 | sums worked out in words |
| `label` | it names the answer, and no other label | ±1 | classes, of the row or all answers |
| `f1` | words shared with the answer (SQuAD) | by word | free text with many good wordings |
| `json` | fields of its last JSON that are right | by field | extraction, structured answers |
| `calls` | its tool calls: names and arguments | by argument | tools, and when to call none |
| `must_say` | values of the row's `must_say` in it | by value | answers from tool results |
| `code` | its Python passes the row's `test` | ±1 | programs |
| `/regex/` | the expression is found in it | ±1 | a form, whatever the answer |
| `auto` | what fits the look of each answer | as those | the default |

Several make one with weights: "json*0.8+exact*0.2", or {"json": 0.8, "exact": 0.2}; the sum is
divided by the weights' sum, so that it stays in [-1, 1].
"""
