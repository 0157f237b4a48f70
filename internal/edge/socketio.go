package edge

import "net/http"

type socketIO struct{}

func newSocketIO(*Server) *socketIO { return &socketIO{} }

func (*socketIO) ServeHTTP(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }

func (*socketIO) close() {}
