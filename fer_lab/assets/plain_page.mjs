// A frozen widget that needs no answers: its view computes everything itself.
export function noAnswers() {
  return () => ({});
}
