package api

// challenge tells the client where to get a token and for what (contract §15.2). Every client parses it by its own rules:
// one scheme, every value quoted, pairs separated by a comma and one space, no trailing slashes, and the port in
// the resource exactly when it is in the caller's URL.
func (q *request) challenge() string {
	resource := "https://" + q.suffix
	if q.port != "" {
		resource += ":" + q.port
	}
	return `Bearer authorization="` + q.h.cfg.Authority(q.port) + `", resource="` + resource + `"`
}
