"""A face for asynchronous clients that waits for each answer, so that they go through the tests of the synchronous ones."""

import inspect


class Waiting:
    """An asynchronous object whose methods wait for the answer."""

    def __init__(self, inner, runner):
        self.inner, self.runner = inner, runner

    def __getattr__(self, name):
        found = getattr(self.inner, name)
        if not callable(found):
            return found
        return lambda *args, **kwargs: self.settle(found(*args, **kwargs))

    def settle(self, answer):
        if inspect.isawaitable(answer):

            async def wait():
                return await answer

            answer = self.runner.run(wait())
        if any(hasattr(answer, name) for name in ("__aenter__", "__aiter__", "polling_method")):
            return Waiting(answer, self.runner)  # a client, a pager, a poller
        return answer

    def __enter__(self):
        self.settle(self.inner.__aenter__())
        return self

    def __exit__(self, *error):
        self.settle(self.inner.__aexit__(*error))

    def __iter__(self):
        return Waiting(self.inner.__aiter__(), self.runner)

    def __next__(self):
        try:
            return self.settle(self.inner.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def begin_delete_key(self, name):
        return Done(self.delete_key(name))

    def begin_recover_deleted_key(self, name):
        return Done(self.recover_deleted_key(name))


class Done:
    """These clients have no pollers for keys: the methods return when everything is done."""

    def __init__(self, result):
        self.result = lambda: result

    def wait(self):
        pass
