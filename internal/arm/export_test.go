package arm

// PatternOf returns the pattern of the route that takes a request, "" if none does.
func PatternOf(method, escapedPath string) string {
	rt, _, err := match(method, escapedPath)
	if err != nil {
		return ""
	}
	return rt.Pattern
}
