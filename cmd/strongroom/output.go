package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// An output is how a command prints its result.
type output struct {
	// members are examples of what scripts take out of the result. If there are none, there are no queries and no tsv.
	members string

	format string
	query  string
}

func (o *output) register(cmd *cobra.Command) {
	if o.members == "" {
		cmd.Flags().StringVarP(&o.format, "output", "o", "json", "json or table")
		return
	}
	cmd.Flags().StringVarP(&o.format, "output", "o", "json", "json, table, or tsv: values with tabs between them, without a head")
	cmd.Flags().StringVar(&o.query, "query", "", "print one member, such as "+o.members+"; of JMESPath only names of members are known")
}

// simpleQuery is a name of a member, or a path of names; of the elements of a list behind [].
var simpleQuery = regexp.MustCompile(`^(\[\]\.)?([a-zA-Z]+(?:\.[a-zA-Z]+)*)$`)

// check refuses a wrong format before the command does anything.
func (o *output) check() error {
	queries := o.members != ""
	switch {
	case o.format == "tsv" && queries, o.format == "json":
	case o.format != "table" && queries:
		return usagef("--output %s: there are json, table and tsv", o.format)
	case o.format != "table":
		return usagef("--output %s: there are json and table", o.format)
	case o.query != "":
		return usagef("--query goes with --output json and tsv")
	}
	if o.query != "" && !simpleQuery.MatchString(o.query) {
		return usagef("--query %s: only names of members are known, such as value, attributes.enabled, or [].name for a list", o.query)
	}
	return nil
}

// print prints v, which marshals to JSON. Columns are those of a table: names of members, inner ones after a dot.
func (o *output) print(w io.Writer, v any, columns ...string) error {
	if o.query != "" {
		found, err := o.find(v)
		switch {
		case err != nil:
			return err
		case o.format == "json":
			return printJSON(w, found)
		}
		return printLines(w, found)
	}
	switch o.format {
	case "table":
		return printTable(w, v, columns)
	case "tsv":
		return printRows(w, v, columns, "")
	}
	return printJSON(w, v)
}

// find returns the member that the query names, or a list of those of each element that has it.
func (o *output) find(v any) (any, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var plain any
	if err := dec.Decode(&plain); err != nil {
		return nil, err
	}
	parts := simpleQuery.FindStringSubmatch(o.query)
	path := strings.Split(parts[2], ".")
	list, isList := plain.([]any)
	switch {
	case !isList && parts[1] == "":
		return inner(plain, path), nil
	case !isList:
		return nil, usagef("--query %s: this is no list: ask for %s", o.query, parts[2])
	case parts[1] == "":
		return nil, usagef("--query %s: this is a list: ask for [].%[1]s", o.query)
	}
	found := []any{}
	for _, element := range list {
		if m := inner(element, path); m != nil {
			found = append(found, m)
		}
	}
	return found, nil
}

// inner is the member of an object, nil if there is none.
func inner(v any, path []string) any {
	for _, name := range path {
		object, _ := v.(map[string]any)
		v = object[name]
	}
	return v
}

// printLines prints what a script takes as it is: a text unchanged, a list with one line for each element, nothing for null.
func printLines(w io.Writer, found any) error {
	list, ok := found.([]any)
	if !ok && found != nil {
		list = []any{found}
	}
	for _, v := range list {
		text, ok := v.(string)
		if !ok {
			text = cell(v, nil)
		}
		if _, err := fmt.Fprintln(w, text); err != nil {
			return err
		}
	}
	return nil
}

// printJSON prints as az does: two spaces, members in order of their names, nothing escaped for HTML.
func printJSON(w io.Writer, v any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	dec := json.NewDecoder(&buf)
	dec.UseNumber()
	var plain any // maps are encoded in the order of their keys
	if err := dec.Decode(&plain); err != nil {
		return err
	}
	enc = json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(plain)
}

// printTable prints one line for an object, or one for each object of a list.
func printTable(w io.Writer, v any, columns []string) error {
	var head, rule []string
	for _, c := range columns {
		name := c[strings.LastIndexByte(c, '.')+1:]
		name = strings.ToUpper(name[:1]) + name[1:]
		head, rule = append(head, name), append(rule, strings.Repeat("-", len(name)))
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if err := printRows(tw, v, columns, fmt.Sprintf("%s\n%s\n", strings.Join(head, "\t"), strings.Join(rule, "\t"))); err != nil {
		return err
	}
	return tw.Flush()
}

// printRows prints a head and rows with tabs between their cells.
func printRows(w io.Writer, v any, columns []string, head string) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var rows []map[string]any
	if len(raw) > 0 && raw[0] == '[' {
		err = json.Unmarshal(raw, &rows)
	} else {
		rows = make([]map[string]any, 1)
		err = json.Unmarshal(raw, &rows[0])
	}
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString(head)
	for _, row := range rows {
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = cell(row, strings.Split(c, "."))
		}
		b.WriteString(strings.Join(cells, "\t") + "\n")
	}
	_, err = io.WriteString(w, b.String())
	return err
}

// cell is a member of a row, without what would break the table or drive a terminal.
func cell(row any, path []string) string {
	switch v := inner(row, path).(type) {
	case nil:
		return ""
	case string:
		return strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return ' '
			}
			return r
		}, v)
	case map[string]any:
		var pairs []string
		for k, v := range v {
			pairs = append(pairs, fmt.Sprintf("%s=%v", k, v))
		}
		slices.Sort(pairs)
		return strings.Join(pairs, " ")
	case []any:
		var all []string
		for _, e := range v {
			all = append(all, cell(e, nil))
		}
		return strings.Join(all, " ")
	default:
		return fmt.Sprint(v)
	}
}
