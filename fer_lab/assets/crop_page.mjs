// A frozen CropEditor needs no answers: the view computes everything itself.
export function cropAnswers() {
  return () => ({});
}
