import com.azure.core.exception.HttpResponseException;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/** Runs named tests one after the other, says how each ended, and exits with 1 if one failed. */
final class Suite {
    interface Body {
        void run() throws Exception;
    }

    private record Test(String name, Body body) {}

    private final List<Test> tests = new ArrayList<>();

    void test(String name, Body body) {
        tests.add(new Test(name, body));
    }

    void run() {
        int failed = 0;
        for (Test test : tests) {
            try {
                test.body.run();
                System.out.println("ok   " + test.name);
            } catch (Throwable e) { // an assertion too
                failed++;
                System.out.println("FAIL " + test.name);
                e.printStackTrace(System.out);
            }
        }
        System.out.printf("%d tests, %d failed%n", tests.size(), failed);
        System.exit(failed == 0 && !tests.isEmpty() ? 0 : 1);
    }

    static String env(String name) {
        return Objects.requireNonNull(System.getenv(name), name);
    }

    static void equal(Object want, Object got) {
        if (!Objects.deepEquals(want, got)) {
            throw new AssertionError("got " + got + ", want " + want);
        }
    }

    static void isTrue(boolean condition, Object what) {
        if (!condition) {
            throw new AssertionError(String.valueOf(what));
        }
    }

    /** Checks status and codes of what call is refused with, and returns the client's error. */
    static HttpResponseException refused(int status, String code, String inner, Body call) throws Exception {
        try {
            call.run();
        } catch (HttpResponseException e) {
            equal(status, e.getResponse().getStatusCode());
            isTrue(e.getMessage().contains("\"code\":\"" + code + "\""), e.getMessage());
            isTrue(inner == null || e.getMessage().contains("\"code\":\"" + inner + "\""), e.getMessage());
            return e;
        }
        throw new AssertionError("the request was not refused with " + status + " " + code);
    }
}
