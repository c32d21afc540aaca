// How a frozen OcclusionWidget finds its answers: every face, window and step it offers was computed beforehand.
export function occlusionAnswers({ answers }) {
  return (get) => answers.find((answer) => ["face", "window", "stride"].every((name) => answer[name] === get(name)));
}
